"""Complete runs as functions: each takes a frozen dataclass and says where it wrote its results."""
