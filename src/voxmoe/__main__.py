"""`python -m voxmoe` is the command `voxmoe`."""

from voxmoe.cli.main import run

if __name__ == "__main__":
    run()
