// A whole scenario with OpenAI's client for JavaScript: `node scenario.mjs <client package's directory>`.
// PLATFORM_BASE_URL, PLATFORM_KEY and PLATFORM_LIMITED_KEY come from the environment; MODELS are public model names.
// Prints one JSON line for each step that passed; the first that fails ends it.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.argv[2]}/`);
const load = async (name) => import(pathToFileURL(require.resolve(name)));
const { default: OpenAI } = await load("openai");
const { zodFunction, zodResponseFormat } = await load("openai/helpers/zod");
const { z } = await load("zod");

const { PLATFORM_BASE_URL: baseURL, PLATFORM_KEY: apiKey, PLATFORM_LIMITED_KEY: limitedKey } = process.env;
const [everyModel, openaiModels, embedding] = JSON.parse(process.env.MODELS);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 10_000 });
const hello = [{ role: "user", content: "Hello there" }];
const Recipe = z.object({ title: z.string(), steps: z.array(z.string()), minutes: z.number().int() });

const step = async (name, work) => {
  await work();
  console.log(JSON.stringify({ step: name }));
};
const forEach = async (names, name, work) => {
  for (const model of names) await step(`${name}: ${model}`, () => work(model));
};

await forEach(everyModel, "a chat", async (model) => {
  const answer = await client.chat.completions.create({ model, messages: hello });
  assert.equal(answer.model, model);
  assert.equal(answer.choices[0].message.content, "You said: Hello there");
  assert.equal(answer.usage.completion_tokens, 6);
});

await forEach(everyModel, "a stream", async (model) => {
  const stream = await client.chat.completions.create({ model, messages: hello, stream: true });
  let text = "";
  for await (const chunk of stream) {
    assert.equal(chunk.usage ?? null, null);
    text += chunk.choices[0]?.delta?.content ?? "";
  }
  assert.equal(text, "You said: Hello there");
});

await forEach(everyModel, "a stream that counts", async (model) => {
  const stream = client.chat.completions.stream({ model, messages: hello, stream_options: { include_usage: true } });
  assert.equal(await stream.finalContent(), "You said: Hello there");
  assert.equal((await stream.totalUsage()).completion_tokens, 6);
});

const tools = (calls) => [
  zodFunction({
    name: "weather",
    parameters: z.object({ city: z.string() }),
    function: ({ city }) => calls.push(`weather ${typeof city}`) && "sunny",
  }),
  zodFunction({
    name: "clock",
    parameters: z.object({}),
    function: () => calls.push("clock") && "noon",
  }),
];
for (const stream of [false, true]) {
  await forEach(everyModel, `a loop of tools, stream ${stream}`, async (model) => {
    const calls = [];
    const messages = [{ role: "user", content: "call:weather,clock" }];
    const runner = client.chat.completions.runTools({ model, messages, tools: tools(calls), stream });
    assert.equal(await runner.finalContent(), "The tool said: noon");
    assert.deepEqual(calls, ["weather string", "clock"]);
  });
}

await forEach(everyModel, "structured outputs", async (model) => {
  const response_format = zodResponseFormat(Recipe, "recipe");
  const answer = await client.chat.completions.parse({ model, messages: hello, response_format });
  Recipe.parse(answer.choices[0].message.parsed);
});

await forEach(openaiModels, "what only OpenAI has", async (model) => {
  const answer = await client.chat.completions.create({ model, messages: hello, n: 2, logprobs: true, seed: 7 });
  assert.equal(answer.choices.length, 2);
  assert.equal(answer.choices[1].logprobs.content[0].logprob, -0.5);
});

await step("embeddings", async () => {
  const decoded = await client.embeddings.create({ model: embedding, input: ["Hello", "there"], dimensions: 8 });
  const plain = await client.embeddings.create({
    model: embedding,
    input: ["Hello", "there"],
    dimensions: 8,
    encoding_format: "float",
  });
  assert.equal(decoded.model, embedding);
  decoded.data.forEach(({ embedding: vector }, index) => {
    vector.forEach((value, at) => assert.ok(Math.abs(value - plain.data[index].embedding[at]) < 1e-6));
  });
});

await step("models", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  for (const model of everyModel) assert.ok(names.includes(model), model);
  assert.equal((await client.models.retrieve(everyModel[0])).id, everyModel[0]);
});

await step("headers", async () => {
  const { data, response, request_id } = await client.chat.completions
    .create({ model: everyModel[0], messages: hello }, { headers: { "X-Request-ID": "order-4711" } })
    .withResponse();
  assert.equal(request_id, "order-4711");
  assert.equal(data._request_id, "order-4711");
  assert.equal(response.headers.get("x-platform-attempts"), "1");
});

const fails = (work, kind, code) =>
  assert.rejects(work, (error) => {
    assert.ok(error instanceof kind, `${error.constructor.name} is no ${kind.name}: ${error}`);
    assert.equal(error.code, code);
    return true;
  });
const create = (model, options = {}) => client.chat.completions.create({ model, messages: hello, ...options });

await step("errors", async () => {
  const stranger = client.withOptions({ apiKey: "sk-wrong" });
  await fails(() => stranger.models.list(), OpenAI.AuthenticationError, "invalid_api_key");
  await fails(() => create("gpt-9"), OpenAI.NotFoundError, "model_not_found");
  await fails(() => create("sim-context-length"), OpenAI.BadRequestError, "context_length_exceeded");
  await fails(() => create("sim-server-error"), OpenAI.InternalServerError, "provider_error");
  await fails(() => create("sim-overloaded", { stream: true }), OpenAI.InternalServerError, "provider_unavailable");
  const hasty = client.withOptions({ timeout: 300 });
  await assert.rejects(
    () => hasty.chat.completions.create({ model: "sim-delay", messages: hello }),
    OpenAI.APIConnectionTimeoutError,
  );
});

await step("text that JSON can hold and UTF-8 cannot", async () => {
  const messages = [{ role: "user", content: "\ud800" }];
  await fails(() => create("sim-ok", { messages }), OpenAI.BadRequestError, "invalid_request");
});

await step("a stream that dies", async () => {
  const stream = await create("sim-stream-drop", { stream: true });
  let text = "";
  await assert.rejects(async () => {
    for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  }, OpenAI.APIError);
  assert.ok(text.startsWith("You "), text);
});

await step("leaving a stream", async () => {
  const stream = await create("slow-for-node", { stream: true });
  for await (const _ of stream) break; // which aborts it
});

await step("a limit is waited for", async () => {
  const limited = client.withOptions({ apiKey: limitedKey });
  await limited.chat.completions.create({ model: everyModel[0], messages: hello });
  const refused = () => limited.chat.completions.create({ model: everyModel[0], messages: hello });
  await fails(refused, OpenAI.RateLimitError, "rate_limited");
  const patient = limited.withOptions({ maxRetries: 1 });
  const answer = await patient.chat.completions.create({ model: everyModel[0], messages: hello });
  assert.equal(answer.choices[0].message.content, "You said: Hello there");
});
