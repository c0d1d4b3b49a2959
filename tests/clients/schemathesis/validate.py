"""Holds a server's document against the JSON Schema of OpenAPI 3.1."""

import json
import sys
import urllib.request

from openapi_spec_validator import OpenAPIV31SpecValidator, validate

url = sys.argv[1]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
with opener.open(url + "/openapi.json", timeout=10) as answer:
    document = json.load(answer)
validate(document, cls=OpenAPIV31SpecValidator)
print(f"valid OpenAPI {document['openapi']}: {len(document['paths'])} paths")
