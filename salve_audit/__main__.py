"""``python -m salve_audit`` and the console script."""

from salve_audit.cli.app import main

if __name__ == "__main__":
    main()
