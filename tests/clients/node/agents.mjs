// The official npm clients of Responses and Messages, and the Vercel AI SDK on both, over each wire format in WIRES.
// Run by tests/clients/frameworks/test_frameworks.py, which sets BASE_URL (without /v1), API_KEY and WIRES.
import assert from "node:assert/strict";
import { test } from "node:test";

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import Anthropic from "@anthropic-ai/sdk";
import { generateText, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const { BASE_URL: root, API_KEY: apiKey, WIRES } = process.env;
const openai = new OpenAI({ baseURL: `${root}/v1`, apiKey, maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: root, apiKey, maxRetries: 0 });
const vercel = {
  openai: createOpenAI({ baseURL: `${root}/v1`, apiKey }),
  anthropic: createAnthropic({ baseURL: `${root}/v1`, apiKey }),
};
const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const verdict = z.object({ text: z.string(), sure: z.boolean() });

for (const wire of WIRES.split(",")) {
  const model = `${wire}-ok`;

  test(`${wire}: responses.create returns text and usage`, async () => {
    const done = await openai.responses.create({ model, input: "hello" });
    assert.equal(done.output_text, "You said: hello");
    assert.equal(done.usage.total_tokens, 6);
  });

  test(`${wire}: responses.stream rebuilds the same response`, async () => {
    let text = "";
    const stream = openai.responses.stream({ model, input: "hello" });
    stream.on("response.output_text.delta", (event) => (text += event.delta));
    const done = await stream.finalResponse();
    assert.deepEqual([text, done.output_text, done.usage.total_tokens], ["You said: hello", "You said: hello", 6]);
  });

  test(`${wire}: responses.parse returns an object`, async () => {
    const asked = { model, input: "hello", text: { format: zodTextFormat(verdict, "verdict") } };
    assert.equal((await openai.responses.parse(asked)).output_parsed.sure, true);
  });

  test(`${wire}: a tool loop of responses`, async () => {
    const tools = [{ type: "function", name: "weather", parameters: schema, strict: false }];
    const input = [{ role: "user", content: "call:weather" }];
    const first = await openai.responses.create({ model, input, tools, store: false });
    const [call] = first.output;
    assert.deepEqual([call.name, JSON.parse(call.arguments)], ["weather", { city: "text" }]);
    const result = { type: "function_call_output", call_id: call.call_id, output: "sunny" };
    const second = await openai.responses.create({ model, input: [...input, call, result], tools, store: false });
    assert.equal(second.output_text, "The tool said: sunny");
  });

  test(`${wire}: messages with thinking and a tool, streamed`, async () => {
    const tools = [{ name: "weather", description: "Look it up.", input_schema: schema }];
    const messages = [{ role: "user", content: "call:weather" }];
    const asked = { model, max_tokens: 4096, thinking: { type: "enabled", budget_tokens: 1024 }, tools };
    const first = await anthropic.messages.stream({ ...asked, messages }).finalMessage();
    const call = first.content.find((block) => block.type === "tool_use");
    assert.deepEqual([first.stop_reason, call.name, call.input], ["tool_use", "weather", { city: "text" }]);
    assert.ok(first.usage.output_tokens > 0);
    const result = { type: "tool_result", tool_use_id: call.id, content: "sunny" };
    const more = [...messages, { role: "assistant", content: first.content }, { role: "user", content: [result] }];
    const second = await anthropic.messages.create({ ...asked, messages: more });
    assert.equal(second.content.find((block) => block.type === "text").text, "The tool said: sunny");
  });

  test(`${wire}: messages.countTokens counts`, async () => {
    const counted = await anthropic.messages.countTokens({ model, messages: [{ role: "user", content: "hello" }] });
    assert.ok(counted.input_tokens > 0);
  });

  for (const [name, provider] of Object.entries(vercel)) {
    test(`${wire}: ai with @ai-sdk/${name} generates, and runs a tool`, async () => {
      const said = await generateText({ model: provider(model), prompt: "hello" });
      assert.deepEqual([said.text, said.usage.inputTokens, said.usage.outputTokens], ["You said: hello", 2, 4]);
      const cities = [];
      const execute = async ({ city }) => (cities.push(city), "sunny");
      const weather = tool({ description: "Look it up.", inputSchema: z.object({ city: z.string() }), execute });
      const asked = { model: provider(model), prompt: "call:weather", tools: { weather }, stopWhen: stepCountIs(3) };
      const done = await generateText(asked);
      assert.deepEqual([done.text, cities, done.steps.length], ["The tool said: sunny", ["text"], 2]);
    });

    test(`${wire}: ai with @ai-sdk/${name} streams`, async () => {
      const streamed = streamText({ model: provider(model), prompt: "hello" });
      let text = "";
      for await (const part of streamed.textStream) text += part;
      assert.equal(text, "You said: hello");
      assert.equal((await streamed.usage).outputTokens, 4);
    });
  }
}
