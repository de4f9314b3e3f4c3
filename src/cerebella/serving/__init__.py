"""One policy, many robots, several wire dialects. No torch.

Start at `server.Server` (sockets) and `service.Service` (the policy behind them). A dialect is one file with one class:
`openpi.OpenpiDialect`, `vla_eval.VlaEvalDialect`, `xiaomi_npz.XiaomiNpzDialect`, `xiaomi_pickle.XiaomiPickleDialect`.
"""
