"""One small Flask service on 127.0.0.1, instrumented by a SkyWalking Python agent.

The agent makes all spans by itself; this file only starts it and serves pages. Which agent speaks is the
virtual environment's choice: with 0.4.0 the protocol is `legacy` (gRPC with the 8.1.0 service names), with
1.2.0 it is `grpc` (the `skywalking.v3.` names) or `http`.

The role `order` serves /order, which calls /stock at the next URL; the role `stock` serves /stock. Both serve
/broken, which raises an exception. Port 0 picks a free one. Prints `READY port`. Ends on SIGTERM, and when
standard input closes, so that it never outlives whoever started it.
"""

import argparse
import logging
import os
import sys
import threading


def arguments():
    parser = argparse.ArgumentParser(description="small instrumented HTTP service")
    parser.add_argument("--role", required=True, choices=["order", "stock"])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--oap", required=True, metavar="HOST:PORT")
    parser.add_argument("--protocol", required=True, choices=["legacy", "grpc", "http"])
    parser.add_argument("--service", required=True)
    parser.add_argument("--instance", required=True)
    parser.add_argument("--next", metavar="URL", help="where the role order finds /stock")
    args = parser.parse_args()
    if args.role == "order" and not args.next:
        parser.error("the role order needs --next")
    return args


def start_agent(args):
    """Must run before Flask and requests are imported, for the agent patches them."""
    # The agent reads this one while it is imported; its default of 30 s is slow for a test.
    os.environ["SW_AGENT_COLLECTOR_HEARTBEAT_PERIOD"] = "3"
    from skywalking import agent, config

    if args.protocol == "legacy":
        config.init(
            service=args.service, instance=args.instance, collector=args.oap, protocol_type="grpc"
        )
    else:
        config.init(
            agent_collector_backend_services=args.oap,
            agent_protocol=args.protocol,
            agent_name=args.service,
            agent_instance_name=args.instance,
        )
    agent.start()


def make_app(args):
    import requests
    from flask import Flask

    app = Flask(__name__)

    if args.role == "order":

        @app.route("/order")
        def order():
            return "order with " + requests.get(args.next + "/stock", timeout=10).text

    else:

        @app.route("/stock")
        def stock():
            return "stock of 7"

    @app.route("/broken")
    def broken():
        raise RuntimeError("broken on purpose")

    return app


def exit_with_parent():
    while sys.stdin.buffer.read(4096):
        pass  # input means nothing, only its end does
    # At once: the agent's own exit handlers wait for a server that may be gone.
    os._exit(0)


def main():
    args = arguments()
    threading.Thread(target=exit_with_parent, daemon=True).start()
    start_agent(args)
    app = make_app(args)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", args.port, app, threaded=True)
    print(f"READY {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
