"""`python -m t5panel` is the `t5panel` command."""

from t5panel.cli import main

if __name__ == "__main__":
    main()
