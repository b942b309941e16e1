// The official npm client against the gateway: one wire format behind the models. Run by tests/clients/sdks/test_openai_node.py,
// which sets BASE_URL, API_KEY, TIGHT_KEY and WIRE.
import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

const { BASE_URL: baseURL, API_KEY: apiKey, TIGHT_KEY: tightKey, WIRE: wire, PIXEL: pixel } = process.env;
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const model = `${wire}-ok`;
const hello = [{ role: "user", content: "hello" }];
const likeOpenAI = { skip: ["anthropic", "responses"].includes(wire) && "the provider's format has no such thing" };

const answerSchema = {
  type: "json_schema",
  json_schema: {
    name: "answer",
    strict: true,
    schema: {
      type: "object",
      properties: { text: { type: "string" }, sure: { type: "boolean" } },
      required: ["text", "sure"],
      additionalProperties: false,
    },
  },
};
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };

async function textOf(stream) {
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
  return text;
}

test("a whole answer, and its headers", async () => {
  const { data, response, request_id } = await client.chat.completions.create({ model, messages: hello }).withResponse();
  assert.equal(data.choices[0].message.content, "You said: hello");
  assert.equal(data.model, model);
  assert.equal(data.usage.total_tokens, 6);
  assert.equal(data._request_id, request_id);
  assert.equal(response.headers.get("x-request-id"), request_id);
  assert.equal(response.headers.get("x-platform-provider"), wire);
  assert.equal(response.headers.get("x-platform-model"), "sim-ok@clients");
  assert.equal(response.headers.get("x-platform-attempts"), "1");
});

test("streams, with usage and without", async () => {
  assert.equal(await textOf(await client.chat.completions.create({ model, messages: hello, stream: true })), "You said: hello");
  const asked = { model, messages: hello, stream: true, stream_options: { include_usage: true } };
  let last;
  for await (const chunk of await client.chat.completions.create(asked)) last = chunk;
  assert.deepEqual(last.choices, []);
  assert.equal(last.usage.total_tokens, 6);
});

test("the stream helper", async () => {
  const pieces = [];
  const stream = client.chat.completions.stream({ model, messages: hello }).on("content", (piece) => pieces.push(piece));
  assert.equal(await stream.finalContent(), "You said: hello");
  assert.equal(pieces.join(""), "You said: hello");
  assert.equal((await stream.finalChatCompletion()).choices[0].finish_reason, "stop");
});

for (const stream of [false, true]) {
  test(`runTools runs the loop to its end, stream: ${stream}`, async () => {
    const cities = [];
    const weather = (args) => {
      cities.push(args.city);
      return "sunny";
    };
    const tools = [{ type: "function", function: { function: weather, name: "weather", parse: JSON.parse, parameters } }];
    const messages = [{ role: "user", content: "call:weather,weather" }];
    const runner = client.chat.completions.runTools({ model, messages, tools, stream });
    assert.equal(await runner.finalContent(), "The tool said: sunny");
    assert.equal(cities.length, 2);
    assert.ok(cities.every((city) => typeof city === "string"));
  });
}

test("structured outputs, whole and streamed", async () => {
  const asked = { model, messages: hello, response_format: answerSchema };
  const whole = await client.chat.completions.parse(asked);
  assert.deepEqual(JSON.parse(whole.choices[0].message.content), { text: "You said: hello", sure: true });
  const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
  assert.equal(streamed.choices[0].message.content, whole.choices[0].message.content);
});

test("an image part", async () => {
  const content = [
    { type: "text", text: "what is it" },
    { type: "image_url", image_url: { url: pixel } },
  ];
  const done = await client.chat.completions.create({ model, messages: [{ role: "user", content }] });
  assert.equal(done.choices[0].message.content, "You said: what is it");
});

test("where an answer stops", async () => {
  if (wire === "responses") {
    // The Responses API has no stop sequences.
    const asked = client.chat.completions.create({ model, messages: hello, stop: " said" });
    await assert.rejects(asked, /stop: is not available on this model/);
  } else {
    const stopped = await client.chat.completions.create({ model, messages: hello, stop: " said" });
    assert.deepEqual([stopped.choices[0].message.content, stopped.choices[0].finish_reason], ["You", "stop"]);
  }
  const cut = await client.chat.completions.create({ model, messages: hello, max_completion_tokens: 2 });
  assert.deepEqual([cut.choices[0].message.content, cut.choices[0].finish_reason], ["You said", "length"]);
});

test("several choices, logprobs, a seed", likeOpenAI, async () => {
  const asked = { model, messages: hello, n: 2, logprobs: true, seed: 7 };
  const first = await client.chat.completions.create(asked);
  assert.deepEqual(first.choices.map((choice) => choice.message.content), ["You said: hello", "You said: hello [2]"]);
  assert.equal(first.choices[0].logprobs.content[0].token, "You ");
  assert.equal((await client.chat.completions.create(asked)).id, first.id);
});

test("embeddings and models", async () => {
  const asked = { model: "embedding", input: ["a", "b"], dimensions: 4 };
  const decoded = await client.embeddings.create(asked); // base64 on the wire, which the client decodes
  const floats = await client.embeddings.create({ ...asked, encoding_format: "float" });
  assert.deepEqual(decoded.data.map((item) => item.embedding.length), [4, 4]);
  decoded.data[0].embedding.forEach((value, at) => assert.ok(Math.abs(value - floats.data[0].embedding[at]) < 1e-6));
  const names = [];
  for await (const each of client.models.list()) names.push(each.id);
  assert.ok(names.includes(model));
  assert.equal((await client.models.retrieve(model)).owned_by, wire);
});

test("errors are the client's own", async () => {
  const ask = (name, more = {}) => client.chat.completions.create({ model: name, messages: hello, ...more });
  await assert.rejects(
    new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 }).models.list(),
    (error) => error instanceof OpenAI.AuthenticationError && error.code === "invalid_api_key",
  );
  await assert.rejects(ask("nothing"), (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
  await assert.rejects(
    ask(`${wire}-context-length`),
    (error) => error instanceof OpenAI.BadRequestError && error.code === "context_length_exceeded",
  );
  await assert.rejects(
    ask(`${wire}-server-error`, { stream: true }),
    (error) => error instanceof OpenAI.InternalServerError && error.status === 502 && error.code === "provider_error",
  );
  await assert.rejects(
    async () => textOf(await ask(`${wire}-stream-error`, { stream: true })),
    (error) => error instanceof OpenAI.APIError && error.code === "provider_error",
  );
});

test("the client's own retry waits as we say", async () => {
  const asked = { model: `${wire}-tight`, messages: hello };
  const impatient = new OpenAI({ baseURL, apiKey: tightKey, maxRetries: 0 });
  await impatient.chat.completions.create(asked);
  let wait;
  await assert.rejects(impatient.chat.completions.create(asked), (error) => {
    wait = Number(error.headers.get("retry-after"));
    return error instanceof OpenAI.RateLimitError && error.code === "rate_limited" && wait >= 1;
  });
  const began = performance.now();
  const patient = new OpenAI({ baseURL, apiKey: tightKey, maxRetries: 1 });
  const done = await patient.chat.completions.create(asked);
  assert.equal(done.choices[0].message.content, "You said: hello");
  // Told in whole seconds, maybe one less than a moment ago; the client's own guess would be half a second.
  assert.ok(performance.now() - began >= (wait - 1) * 1000);
});
