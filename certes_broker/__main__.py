"""Runs the command `certes` as `python -m certes_broker`."""

from certes_broker.cli.main import main

if __name__ == "__main__":
    main(prog_name="certes")
