"""`python -m groupvpn` is the `groupvpn` command."""

from groupvpn.console.cli import main

if __name__ == "__main__":
    main()
