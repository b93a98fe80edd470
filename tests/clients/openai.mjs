// The official Node client against a gateway: node openai.mjs URL KEY. Prints one JSON line per check and
// exits 0 if all hold. Imported from the directory in SLUICE_NODE_HOME.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [url, key] = process.argv.slice(2);
const require = createRequire(`${process.env.SLUICE_NODE_HOME}/package.json`);
const { default: OpenAI } = await import(pathToFileURL(require.resolve("openai")));

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0, timeout: 20_000 });
const model = "mock-model";
const messages = [{ role: "user", content: "Hello" }];
const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];

async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

const checks = {
  async chat() {
    const answer = await client.chat.completions.create({ model, messages, max_tokens: 8 });
    assert.equal(answer.usage.completion_tokens, 8);
    assert.ok(answer._request_id);
  },
  async streamed() {
    const fields = { model, messages, max_tokens: 9, seed: 3 };
    const whole = await client.chat.completions.create(fields);
    const chunks = await all(await client.chat.completions.create({ ...fields, stream: true }));
    const text = chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join("");
    assert.equal(text, whole.choices[0].message.content);
    assert.ok(chunks.every((chunk) => !chunk.usage));
  },
  async usage() {
    const stream = await client.chat.completions.create({
      model, messages, max_tokens: 4, stream: true, stream_options: { include_usage: true },
    });
    const last = (await all(stream)).at(-1);
    assert.deepEqual([last.choices.length, last.usage.completion_tokens], [0, 4]);
  },
  async tools() {
    const runner = client.chat.completions.stream({ model, messages, tools, tool_choice: "required" });
    const final = await runner.finalChatCompletion();
    assert.equal(final.choices[0].message.tool_calls[0].function.name, "get_weather");
  },
  async choices() {
    const answer = await client.chat.completions.create({ model, messages, n: 2, max_tokens: 3 });
    assert.equal(answer.choices.length, 2);
  },
  async completions() {
    const answer = await client.completions.create({ model, prompt: "One", max_tokens: 5 });
    assert.equal(answer.usage.completion_tokens, 5);
  },
  async embeddings() {
    const answer = await client.embeddings.create({ model, input: ["a", "b"] });
    assert.equal(answer.data.length, 2);
    assert.equal(typeof answer.data[0].embedding[0], "number");
  },
  async responses() {
    const whole = await client.responses.create({ model, input: "Hello", max_output_tokens: 6 });
    assert.ok(whole.output_text);
    const stream = await client.responses.create({
      model, input: "Hello", max_output_tokens: 6, stream: true,
    });
    const events = await all(stream);
    assert.match(events.at(-1).type, /^response\.(completed|incomplete)$/);
  },
  async models() {
    const list = await all(await client.models.list());
    assert.deepEqual(list.map((one) => one.id), [model, "org/mock-model-8b"]);
    assert.equal((await client.models.retrieve("org/mock-model-8b")).id, "org/mock-model-8b");
  },
  async badRequest() {
    const wrong = client.chat.completions.create({ model, messages, max_tokens: "many" });
    await assert.rejects(wrong, (error) => error instanceof OpenAI.BadRequestError
      && error.param === "max_tokens" && Boolean(error.requestID));
  },
  async notFound() {
    const wrong = client.chat.completions.create({ model: "none", messages });
    await assert.rejects(wrong, OpenAI.NotFoundError);
  },
  async authentication() {
    const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: "wrong", maxRetries: 0 });
    await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
  },
  async rateLimit() {
    const headers = { "x-sim-fault": "429:3" };
    const limited = client.chat.completions.create({ model, messages }, { headers });
    await assert.rejects(limited, (error) => error instanceof OpenAI.RateLimitError
      && error.headers.get("retry-after") === "3");
  },
  async serverError() {
    const headers = { "x-sim-fault": "refuse" };
    const broken = client.chat.completions.create({ model, messages }, { headers });
    await assert.rejects(broken, OpenAI.InternalServerError);
  },
  async timeout() {
    const options = { headers: { "x-sim-fault": "hang" }, timeout: 200 };
    const late = client.chat.completions.create({ model, messages }, options);
    await assert.rejects(late, OpenAI.APIConnectionTimeoutError);
  },
  async connection() {
    const nowhere = new OpenAI({ baseURL: "http://127.0.0.1:9/v1", apiKey: key, maxRetries: 0 });
    await assert.rejects(nowhere.models.list(), OpenAI.APIConnectionError);
  },
  async brokenStream() {
    const headers = { "x-sim-fault": "rst:2000" };
    const stream = await client.chat.completions.create(
      { model, messages, max_tokens: 200, stream: true }, { headers },
    );
    await assert.rejects(all(stream));
  },
  async cancel() {
    const stream = await client.chat.completions.create(
      { model, messages, max_tokens: 300, stream: true }, { headers: { "x-sim-fault": "stall:5" } },
    );
    let seen = 0;
    for await (const chunk of stream) {
      seen += chunk.choices.length;
      if (seen === 3) break;
    }
    assert.equal(seen, 3);
  },
  async manyAtOnce() {
    const asks = Array.from({ length: 40 }, (_, at) =>
      client.chat.completions.create({ model, messages, max_tokens: 1 + at, stream: true }).then(all));
    const answers = await Promise.all(asks);
    answers.forEach((chunks, at) =>
      assert.equal(chunks.filter((chunk) => chunk.choices[0].delta.content).length, 1 + at));
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  let error = null;
  try {
    await check();
  } catch (caught) {
    error = String(caught?.stack ?? caught);
    failed += 1;
  }
  console.log(JSON.stringify({ name, error }));
}
process.exit(failed ? 1 : 0);
