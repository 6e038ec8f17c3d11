"""`lossgauge` and `python -m lossgauge`: signals first, then everything else."""

from lossgauge import stopping


def main() -> None:
    """The command line, with one line in place of a traceback where a signal ends it."""
    stopping.handle_signals()
    try:
        from lossgauge import startup
        from lossgauge.cli import main as command_line

        startup.end_quickly()
        command_line()
    except BaseException as error:
        if stopping.stopped_by(error):
            stopping.end()
        stopping.default_signals()
        raise


if __name__ == "__main__":
    main()
