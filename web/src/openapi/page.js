// Shows /openapi.json: operations by group, what each takes and answers, and a way to send it. Everything that comes from
// the document or from an answer is set as text, never as markup.
"use strict";

const byId = (id) => document.getElementById(id);

/** An element with attributes and children; texts are text. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Text in which what stands between backticks is code. */
function prose(text) {
  const pieces = (text ?? "").split("`");
  return pieces.map((piece, index) => (index % 2 ? element("code", {}, piece) : piece));
}

function resolve(node) {
  if (!node?.$ref) return node ?? {};
  return node.$ref.slice(2).split("/").reduce((at, part) => at[part], spec);
}

/** A few words for a schema. */
function kind(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const parts = schema.anyOf ?? schema.allOf;
  if (parts) return parts.map(kind).join(schema.anyOf ? " or " : " and ");
  const words = [[schema.type ?? "any"].flat().join(" | ")];
  if (schema.items) words.push(`of ${kind(schema.items)}`);
  if (schema.format) words.push(`(${schema.format})`);
  const from = schema.minimum ?? schema.minLength ?? schema.minItems ?? schema.minProperties;
  const to = schema.maximum ?? schema.maxLength ?? schema.maxItems ?? schema.maxProperties;
  if (from !== undefined || to !== undefined) words.push(`${from ?? ""}…${to ?? ""}`);
  return words.join(" ");
}

/** A schema's fields, one row each; objects within objects are indented. */
function fieldRows(schema, prefix = "") {
  schema = resolve(schema);
  const parts = schema.anyOf ?? schema.allOf ?? [];
  const rows = parts.flatMap((part) => fieldRows(part, prefix));
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    const required = (schema.required ?? []).includes(name);
    rows.push([prefix + name, kind(field) + (required ? ", required" : ""), field.description ?? ""]);
    rows.push(...fieldRows(field.items ?? field, `${prefix}${name}${field.items ? "[]" : ""}.`));
  }
  return rows;
}

function table(rows) {
  const lines = rows.map(([name, what, meaning]) =>
    element("tr", {}, element("td", {}, element("code", {}, name)), element("td", { class: "dim" }, what),
      element("td", {}, ...prose(meaning))));
  return element("table", {}, element("tbody", {}, ...lines));
}

function answers(operation) {
  const lines = Object.entries(operation.responses).map(([status, answer]) => {
    answer = resolve(answer);
    const media = Object.keys(answer.content ?? {}).join(", ");
    const schema = Object.values(answer.content ?? {})[0]?.schema;
    const fields = schema && Number(status) < 400 ? fieldRows(schema.items ?? schema) : [];
    const headers = Object.keys(answer.headers ?? {});
    return element("tr", {},
      element("td", {}, element("code", {}, status)),
      element("td", {}, ...prose(answer.description),
        headers.length ? element("div", { class: "dim" }, `Headers: ${headers.join(", ")}`) : null,
        fields.length ? table(fields) : null),
      element("td", { class: "dim" }, media));
  });
  return element("table", {}, element("tbody", {}, ...lines));
}

function trial(method, path, parameters, body) {
  const inputs = parameters.map((parameter) => {
    const example = parameter.in === "path" ? resolve(parameter.schema).examples?.[0] ?? "" : "";
    const input = element("input", { placeholder: parameter.in, value: example, "aria-label": parameter.name });
    return [parameter, input];
  });
  const text = body === undefined ? null : element("textarea", { "aria-label": "body" });
  if (text) text.value = JSON.stringify(body, null, 2);
  const shown = element("pre", { hidden: "" });
  const send = async (event) => {
    event.preventDefault();
    let url = path;
    const query = new URLSearchParams(), headers = {};
    for (const [parameter, { value }] of inputs) {
      if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, encodeURIComponent(value));
      else if (value && parameter.in === "query") query.append(parameter.name, value);
      else if (value) headers[parameter.name] = value;
    }
    if (byId("token").value) headers.Authorization = `Bearer ${byId("token").value}`;
    if (text) headers["Content-Type"] = "application/json";
    shown.hidden = false;
    shown.textContent = "…";
    try {
      const options = { method, headers, body: text?.value, credentials: "omit", cache: "no-store" };
      const answer = await fetch(query.size ? `${url}?${query}` : url, options);
      const told = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
      const content = await answer.text();
      shown.textContent = `${answer.status} ${answer.statusText}\n${told}\n\n${pretty(content)}`;
    } catch (error) {
      shown.textContent = String(error);
    }
  };
  const labels = inputs.map(([parameter, input]) => element("label", {}, `${parameter.name} `, input));
  return element("form", { onsubmit: send }, ...labels, text, element("button", {}, "Send"), shown);
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

function contents(method, path, operation) {
  const parameters = operation.parameters.map(resolve);
  const body = operation.requestBody?.content["application/json"];
  const parts = [element("p", {}, ...prose(operation.description))];
  if (parameters.length) {
    const rows = parameters.map((p) => [p.name, `${p.in}: ${kind(resolve(p.schema))}`, p.description]);
    parts.push(element("h3", {}, "Parameters"), table(rows));
  }
  if (body) {
    const forms = resolve(body.schema).anyOf ?? [body.schema];
    for (const [index, form] of forms.entries()) {
      const rows = fieldRows(form);
      parts.push(element("h3", {}, index ? "Or body" : "Body"), rows.length ? table(rows) : element("code", {}, "{}"));
    }
  }
  parts.push(element("h3", {}, "Answers"), answers(operation));
  parts.push(element("h3", {}, "Try it"), trial(method, path, parameters, body?.example));
  return element("div", { class: "inside" }, ...parts);
}

/** One operation; what is inside is made when it is opened. */
function card(method, path, operation) {
  const open = operation.security.length === 0 ? " · without a token" : "";
  const heading = element("summary", {}, element("b", { class: `method ${method}` }, method.toUpperCase()),
    element("code", {}, path), element("span", {}, operation.summary + open));
  const made = element("details", { class: "operation", id: operation.operationId }, heading);
  const fill = () => {
    if (made.open && made.children.length === 1) made.append(contents(method.toUpperCase(), path, operation));
  };
  made.addEventListener("toggle", fill);
  const words = JSON.stringify([method, path, operation.summary, operation.description, Object.keys(operation.responses),
    Object.values(operation.responses).map((answer) => answer.$ref), operation.requestBody]);
  cards.push([made, words.toLowerCase()]);
  return made;
}

function find() {
  const wanted = byId("query").value.toLowerCase().split(/\s+/);
  for (const [made, words] of cards) made.hidden = !wanted.every((word) => words.includes(word));
  for (const group of document.querySelectorAll("section")) {
    group.hidden = !group.querySelector("details:not([hidden])");
  }
}

function show() {
  document.title = spec.info.title;
  byId("title").replaceChildren(spec.info.title, " ", element("small", {}, spec.info.version));
  byId("about").replaceChildren(...prose(spec.info.description));
  const groups = new Map(spec.tags.map(({ name }) => [name, []]));
  for (const [path, methods] of Object.entries(spec.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      groups.get(operation.tags[0]).push(card(method, path, operation));
    }
  }
  const sections = [...groups].map(([name, made]) =>
    element("section", { id: `group-${name}` }, element("h2", {}, name), ...made));
  byId("operations").replaceChildren(...sections);
  byId("tags").replaceChildren(...[...groups.keys()].map((name) => element("a", { href: `#group-${name}` }, name)));
  byId("query").addEventListener("input", find);
  byId("find").addEventListener("submit", (event) => event.preventDefault());
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named instanceof HTMLDetailsElement) named.open = true;
}

let spec;
const cards = [];
fetch("/openapi.json")
  .then((answer) => answer.json())
  .then((document) => { spec = document; show(); })
  .catch((error) => { byId("operations").textContent = `The document cannot be shown: ${error}`; });
