"""The names of rclpy that a bridge needs, with topics inside this process. `graph` is what a test plays the robot with."""

from dataclasses import dataclass, field
from typing import Any

from .qos import QoSProfile, ReliabilityPolicy
from .signals import SignalHandlerOptions


class Graph:
    """Everything on the (one) ROS graph, and its clock."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.is_up = False
        self.signal_handlers: SignalHandlerOptions | None = None
        self.nodes: list[Node] = []
        self.listeners: dict[str, tuple[type, ReliabilityPolicy, list[Any]]] = {}
        self.qos: dict[str, QoSProfile] = {}

    def listen(self, topic: str, kind: type) -> list[Any]:
        """A controller: a reliable subscription, as ros2_control makes them. Returns what it gets."""
        self.listeners[topic] = (kind, ReliabilityPolicy.RELIABLE, [])
        return self.listeners[topic][2]

    def say(self, topic: str, message: Any) -> None:
        """A driver publishes; returns when every callback has run."""
        for node in self.nodes:
            for subscription in node.subscriptions:
                if subscription.topic == topic:
                    assert type(message) is subscription.kind, (topic, type(message), subscription.kind)
                    node.executor.work.put((subscription.callback, message))
                    node.executor.work.join()


graph = Graph()


@dataclass
class Subscription:
    kind: type
    topic: str
    callback: Any


class Publisher:
    def __init__(self, kind: type, topic: str, qos: QoSProfile) -> None:
        self.kind, self.topic, self.qos = kind, topic, qos

    def get_subscription_count(self) -> int:
        """A reliable subscription does not match a best-effort publisher."""
        listener = graph.listeners.get(self.topic)
        return int(listener is not None and listener[1] is self.qos.reliability and listener[0] is self.kind)

    def publish(self, message: Any) -> None:
        assert graph.is_up, "published after shutdown"
        assert type(message) is self.kind
        if self.get_subscription_count():
            graph.listeners[self.topic][2].append(message)


@dataclass
class Instant:
    nanoseconds: int


class Clock:
    def now(self) -> Instant:
        return Instant(graph.now_ns)


@dataclass
class Node:
    name: str
    subscriptions: list[Subscription] = field(default_factory=list)
    executor: Any = None

    def create_subscription(self, kind: type, topic: str, callback: Any, qos: QoSProfile) -> Subscription:
        graph.qos[topic] = qos
        self.subscriptions.append(Subscription(kind, topic, callback))
        return self.subscriptions[-1]

    def create_publisher(self, kind: type, topic: str, qos: QoSProfile) -> Publisher:
        graph.qos[topic] = qos
        return Publisher(kind, topic, qos)

    def get_clock(self) -> Clock:
        return Clock()

    def destroy_node(self) -> None:
        graph.nodes.remove(self)


def init(*, signal_handler_options: SignalHandlerOptions = SignalHandlerOptions.ALL) -> None:
    graph.is_up, graph.signal_handlers = True, signal_handler_options


def ok() -> bool:
    return graph.is_up


def shutdown() -> None:
    assert graph.is_up
    graph.is_up = False


def create_node(name: str) -> Node:
    assert graph.is_up
    graph.nodes.append(Node(name))
    return graph.nodes[-1]
