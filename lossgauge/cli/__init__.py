"""The command line: parse, call, print. Heavy imports wait until a command needs them.

One file for each group of commands, in the order of the help; `program` has what is around them.
"""

from lossgauge.cli.program import app as app
from lossgauge.cli.program import main as main

# the commands register themselves, in this order
from lossgauge.cli import your_data, studies, heads, lists  # isort: skip  # noqa: F401
