"""What looks at a run while it trains: hooks of one's own, and loggers."""

from segjax.training.hooks.hook import Hook, Result, RunStart
from segjax.training.hooks.table import EVENTS, HOOKS, Hooks, check_hooks, make_hooks
