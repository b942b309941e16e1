// The official npm client for Azure, pointed here by its endpoint alone. Run by tests/clients/sdks/test_azure_clients.py.
import assert from "node:assert/strict";
import { test } from "node:test";

import { AzureOpenAI } from "openai";

const { ENDPOINT: endpoint, API_KEY: apiKey, WIRE: wire, EMBEDDING: embedding } = process.env;
const apiVersion = "2024-10-21";
const client = new AzureOpenAI({ endpoint, apiKey, apiVersion, maxRetries: 0 });
const model = `${wire}-ok`;
const messages = [{ role: "user", content: "hello" }];

test("a whole answer", async () => {
  const done = await client.chat.completions.create({ model, messages });
  assert.equal(done.model, model);
  assert.equal(done.choices[0].message.content, "You said: hello");
});

test("a stream", async () => {
  let text = "";
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
    text += chunk.choices[0]?.delta.content ?? "";
  }
  assert.equal(text, "You said: hello");
});

test("a fixed deployment counts, whatever the model", async () => {
  const fixed = new AzureOpenAI({ endpoint, apiKey, apiVersion, deployment: model, maxRetries: 0 });
  assert.equal((await fixed.chat.completions.create({ model: "nothing", messages })).model, model);
});

test("vectors", async () => {
  const done = await client.embeddings.create({ model: embedding, input: ["a", "b"] });
  assert.equal(done.data.length, 2);
});

test("the list of models", async () => {
  const names = [];
  for await (const one of client.models.list()) names.push(one.id);
  assert.ok(names.includes(model));
});
