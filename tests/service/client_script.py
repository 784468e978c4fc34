"""`python client_script.py unary|stream ADDRESS`: waits for an answer that does not come, until Ctrl-C."""

import signal
import sys

from maas_client import Client

if __name__ == "__main__":
    # Whoever runs tests in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    form, address = sys.argv[1:]
    with Client(address) as client:
        if form == "unary":
            client.detokenize([[1]], model="slow")
        else:
            print(next(client.generate_stream("stuck")).text)
