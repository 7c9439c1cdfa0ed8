"""The entry point: a Ctrl-C while the command line is still being imported ends in silence, as if it had been waited for."""

import signal


def main() -> None:
    """Import the command line and run it."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # else somebody chose to ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from depth_loss_sweep.cli import main as run_command_line

    signal.signal(signal.SIGINT, handler)
    run_command_line()


if __name__ == "__main__":
    main()
