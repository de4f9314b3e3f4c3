"""The learning side's network: a Qwen3-VL brain, a cerebellum that reads its K/V cache, and the flow between them."""
