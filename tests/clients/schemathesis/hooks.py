"""Keeps the walk logged in, and gives commands that would end that to somebody else."""

import itertools
import json
import os
import urllib.request
import uuid

import schemathesis

URL = os.environ["SHOWCALLER_URL"]
# They end the sessions of the account they are given to.
ENDING = ("/close", "/erase", "/revoke-role")
END_SESSION = "/v1/sessions/{id}/end"
# What the walk itself stands on: it finds these ids in answers and tries them.
own = {"me"}
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
    path, parameters = case.operation.path, case.path_parameters or {}
    if parameters.get("id") in own and path.endswith(ENDING):
        parameters["id"] = fresh_account()
    elif parameters.get("id") in own and path == END_SESSION:
        parameters["id"] = str(uuid.uuid4())


if "SHOWCALLER_REFRESH_TOKEN" in os.environ:

    @schemathesis.auth(refresh_interval=REFRESH_AFTER_S)
    class Session:
        """The session whose refresh token was given."""

        refresh_token = os.environ["SHOWCALLER_REFRESH_TOKEN"]

        def get(self, case, context):
            tokens = post("/v1/sessions/refresh", {"refresh_token": Session.refresh_token})
            Session.refresh_token = tokens["refresh_token"]
            own.update([tokens["account_id"], tokens["session_id"]])
            return tokens["access_token"]

        def set(self, case, data, context):
            case.headers = case.headers or {}
            case.headers["Authorization"] = f"Bearer {data}"
