"""Holds docker-compose.yml against the schema of the Compose specification, and prints it as JSON."""

import json
import sys
from pathlib import Path

import yaml
from jsonschema import Draft7Validator

ROOT = Path(__file__).resolve().parent.parent.parent.parent
SCHEMA = ROOT / "target/clients/schemas/node_modules/dclint/schemas/compose.schema.json"

compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
errors = Draft7Validator(json.loads(SCHEMA.read_text())).iter_errors(compose)
problems = [f"{error.json_path}: {error.message}" for error in errors]
if problems:
    sys.exit("not valid Compose:\n" + "\n".join(problems))
print(json.dumps(compose))
