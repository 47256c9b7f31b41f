"use strict";

// Shows /openapi.json. Text goes in by textContent only, so nothing in the document can become markup.

function element(name, text, ...children) {
  const node = document.createElement(name);
  if (text) node.textContent = text;
  node.append(...children);
  return node;
}

function withClass(className, node) {
  node.className = className;
  return node;
}

// What stands between backticks is code; descriptions have no other markup.
function prose(text) {
  const parts = text.split("`");
  return parts.map((part, index) => (index % 2 ? element("code", part) : part));
}

function schemaName(schema) {
  return schema.$ref ? schema.$ref.split("/").pop() : "";
}

function schemaLink(content) {
  const [mediaType, media] = Object.entries(content)[0];
  const name = schemaName(media.schema);
  const link = element("a", name || mediaType);
  if (name) link.href = `#${name}`;
  return link;
}

function table(headings, rows) {
  const head = element("tr", "", ...headings.map((heading) => element("th", heading)));
  return element("table", "", head, ...rows.map((cells) => element("tr", "", ...cells)));
}

function values(schema) {
  const words = schema.enum ? [schema.enum.join(", ")] : [schema.format || schema.type];
  if (schema.minimum !== undefined && schema.maximum !== undefined) words.push(`${schema.minimum} to ${schema.maximum}`);
  if (schema.default !== undefined) words.push(`default ${schema.default}`);
  return words.join(", ");
}

function parameters(operation) {
  const rows = (operation.parameters || []).map((parameter) => [
    element("td", "", element("code", parameter.name)),
    element("td", parameter.in + (parameter.required ? ", required" : "")),
    element("td", values(parameter.schema)),
    element("td", "", ...prose(parameter.description || "")),
  ]);
  return rows.length ? [table(["Parameter", "In", "Values", ""], rows)] : [];
}

function requestBody(operation) {
  if (!operation.requestBody) return [];
  const label = operation.requestBody.required ? "Body: " : "Body, optional: ";
  return [element("p", label, schemaLink(operation.requestBody.content))];
}

function responses(operation) {
  const rows = Object.entries(operation.responses).map(([status, response]) => [
    element("td", status),
    element("td", "", ...prose(response.description)),
    element("td", "", ...(response.content ? [schemaLink(response.content)] : [])),
  ]);
  return table(["Status", "", "Body"], rows);
}

function showOperation(path, method, operation) {
  const heading = element(
    "summary",
    "",
    withClass("method", element("span", method.toUpperCase())),
    element("code", path),
    element("span", "", ...prose(operation.summary)),
  );
  const access = operation.security && !operation.security.length ? "No token needed." : "Needs a Bearer token.";
  return element(
    "details",
    "",
    heading,
    element("p", "", ...prose(`${operation.description || ""} ${access}`.trim())),
    ...parameters(operation),
    ...requestBody(operation),
    responses(operation),
  );
}

function showSchema(name, schema) {
  const section = element(
    "details",
    "",
    element("summary", "", element("code", name)),
    element("pre", JSON.stringify(schema, null, 2)),
  );
  section.id = name;
  return section;
}

function show(api) {
  const main = document.getElementById("api");
  const operations = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  );
  const groups = api.tags.flatMap(({ name }) => [
    element("h2", name),
    ...operations
      .filter(({ operation }) => operation.tags.includes(name))
      .map(({ path, method, operation }) => showOperation(path, method, operation)),
  ]);
  main.replaceChildren(
    element("h1", `${api.info.title} ${api.info.version}`),
    element("p", "", ...prose(api.info.description)),
    ...groups,
    element("h2", "schemas"),
    ...Object.entries(api.components.schemas).map(([name, schema]) => showSchema(name, schema)),
  );
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target) {
    target.open = true;
    target.scrollIntoView();
  }
}

window.addEventListener("hashchange", openTarget);

fetch("/openapi.json")
  .then((response) => {
    if (!response.ok) throw new Error(`answered ${response.status}`);
    return response.json();
  })
  .then(show)
  .then(openTarget)
  .catch((error) => {
    document.getElementById("api").replaceChildren(element("p", `/openapi.json ${error.message}`));
  });
