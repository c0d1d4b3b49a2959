"""Keeps the walk logged in, and gives commands that would end that to an account of their own."""

import itertools
import json
import os
import urllib.request

import schemathesis

URL = os.environ["SHOWCALLER_URL"]
# They end the sessions of the account they are given to.
ENDING = ("/close", "/erase", "/revoke-role")
# An access token is good for five minutes; a run on a busy machine may take longer.
REFRESH_AFTER_S = 120
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
numbers = itertools.count()


def post(path, body):
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), headers)
    with opener.open(request, timeout=40) as answer:
        return json.load(answer)


def fresh_account():
    body = {
        "email": f"walked-{os.getpid()}-{next(numbers)}@example.org",
        "password": "a quiet lighthouse",
        "profile": {"display_name": "Walked"},
    }
    return post("/v1/accounts", body)["stream"].removeprefix("account-")


@schemathesis.hook
def before_call(context, case, **kwargs):
    ends = case.operation.path.endswith(ENDING)
    if ends and (case.path_parameters or {}).get("id") == "me":
        case.path_parameters["id"] = fresh_account()


if "SHOWCALLER_REFRESH_TOKEN" in os.environ:

    @schemathesis.auth(refresh_interval=REFRESH_AFTER_S)
    class Session:
        """The session whose refresh token was given."""

        refresh_token = os.environ["SHOWCALLER_REFRESH_TOKEN"]

        def get(self, case, context):
            tokens = post("/v1/sessions/refresh", {"refresh_token": Session.refresh_token})
            Session.refresh_token = tokens["refresh_token"]
            return tokens["access_token"]

        def set(self, case, data, context):
            case.headers = case.headers or {}
            case.headers["Authorization"] = f"Bearer {data}"
