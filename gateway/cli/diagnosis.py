"""Diagnosis: the checks of `doctor` as one JSON document, for the page of a server that runs them as a process of its
own. The data folder is that of the environment."""

import sys

from gateway.cli.main import main

if __name__ == "__main__":
    sys.argv[1:] = ["doctor", "--json"]
    main()
