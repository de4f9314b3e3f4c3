"""Keys and signals become orders."""

import os
import pty
import queue
import signal
import termios

import pytest

from cerebella.live.orders import Keyboard, Keys, Order, Orders, taking_signals


def pressed(text: str) -> list[Order]:
    keys = Keys()
    return [order for character in text if (order := keys.press(character)) is not None]


def test_keys() -> None:
    assert pressed(" q") == [Order("pause"), Order("quit")]
    assert pressed("e") == [Order("emergency stop")]
    assert pressed("xyz\n") == []


def test_a_task_is_typed_like_a_line_and_its_letters_are_no_orders() -> None:
    assert pressed("tpick the req\x7fd one\n ") == [Order("task", "pick the red one"), Order("pause")]
    assert pressed("tpick\x1bq") == [Order("quit")]
    assert pressed("t  \n") == []


def test_a_terminal_is_read_key_by_key_and_left_as_it_was() -> None:
    master, slave = pty.openpty()
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    before = termios.tcgetattr(slave)
    with Keyboard(slave, orders.put) as keyboard:
        assert not termios.tcgetattr(slave)[3] & termios.ICANON
        os.write(master, b" tpour\n")
        assert orders.get(timeout=10) == Order("pause")
        assert orders.get(timeout=10) == Order("task", "pour")
        assert keyboard.typed is None
    assert termios.tcgetattr(slave)[3] == before[3]
    os.close(master)
    os.close(slave)


def test_an_emergency_stop_does_not_wait_for_the_control_thread() -> None:
    latched: list[str] = []
    orders = Orders(latched.append)
    orders.give(Order("pause"))
    orders.give(Order("emergency stop"))
    assert latched == ["the operator pressed e"]
    assert [order.kind for order in orders.take()] == ["pause", "emergency stop"]
    assert orders.take() == []


def test_the_first_signal_is_a_controlled_stop_and_the_second_an_emergency_stop() -> None:
    latched: list[str] = []
    orders = Orders(latched.append)
    before = signal.getsignal(signal.SIGINT)
    with taking_signals(orders):
        signal.raise_signal(signal.SIGTERM)
        assert orders.take() == [Order("quit", "SIGTERM")]
        assert latched == []
        signal.raise_signal(signal.SIGINT)
    assert latched == ["a second SIGINT"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_fault_inside_gives_the_signals_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError, match="inside"), taking_signals(Orders(print)):
        raise RuntimeError("inside")
    assert signal.getsignal(signal.SIGINT) is before
