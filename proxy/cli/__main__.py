"""`python -m proxy.cli`: the same as `hybrid-llm`."""

from proxy.cli.main import main

if __name__ == "__main__":
    main()
