"""``python -m onecycle``: the same as the command ``onecycle``."""

from onecycle.cli.main import main

if __name__ == "__main__":
    main()
