// Ollama's client for JavaScript.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Ollama } from "ollama";
import { z } from "zod";
import { CITIES, EASY, HARD, LOCAL_MODEL, REPORT, Report, TEXT, TIERS } from "./stage.js";
import { calls, measure, released, tiers } from "./stage.js";

const connect = () => new Ollama({ host: process.env.OLLAMA_HOST });
const client = connect();
const asked = (content) => [{ role: "user", content }];
const WEATHER = {
  type: "function",
  function: {
    name: "weather",
    description: "Tell the weather of a city.",
    parameters: {
      type: "object",
      properties: { city: { type: "string", description: "The city." } },
      required: ["city"],
    },
  },
};

describe("ollama", () => {
  test("chat goes where the router decides", async () => {
    for (const prompt of [EASY, HARD]) {
      const answer = await client.chat({ model: "auto", messages: asked(prompt) });
      assert.equal(answer.message.content, TEXT);
      assert.equal(answer.done_reason, "stop");
      assert.deepEqual([answer.prompt_eval_count, answer.eval_count], [19, 10]);
    }
    assert.deepEqual(await tiers(), TIERS);
  });

  test("models are listed", async () => {
    const names = (await client.list()).models.map(({ model }) => model.replace(/:latest$/, ""));
    for (const name of ["auto", "local", "cloud", LOCAL_MODEL]) assert.ok(names.includes(name));
  });

  test("embeddings", async () => {
    const { embeddings } = await client.embed({ model: "nomic-embed-text", input: ["a", "b"] });
    assert.deepEqual(embeddings, [
      [0.25, -0.5, 0.125],
      [0.25, -0.5, 0.125],
    ]);
    assert.deepEqual(await tiers(), ["local"]);
  });

  test("images go to a vision model", async () => {
    const images = [Buffer.from("89504e470d0a1a0a", "hex")];
    const messages = [{ role: "user", content: EASY, images }];
    const answer = await client.chat({ model: "auto", messages });
    assert.equal(answer.message.content, TEXT);
    assert.deepEqual(await tiers(), ["cloud"]);
  });

  test("saved", (t) =>
    measure(t, (task) => connect().chat({ model: "auto", messages: asked(task) })));

  for (const tier of TIERS) {
    test(`chat from a prompt, ${tier}`, async () => {
      assert.equal((await client.generate({ model: tier, prompt: EASY })).response, TEXT);
      assert.deepEqual(await tiers(), [tier]);
    });

    test(`stream, ${tier}`, async () => {
      const parts = [];
      const request = { model: tier, messages: asked(EASY), stream: true };
      for await (const part of await client.chat(request)) parts.push(part);
      assert.equal(parts.map(({ message }) => message.content).join(""), TEXT);
      assert.equal(parts.at(-1).eval_count, 10);
    });

    test(`stream aborted by the client stops the upstream, ${tier}`, async () => {
      const request = { model: tier, messages: asked(`HANG ${EASY}`), stream: true };
      const stream = await client.chat(request);
      await assert.rejects(
        async () => {
          for await (const _ of stream) stream.abort();
        },
        { name: "AbortError" },
      );
      await released();
    });

    test(`tools, ${tier}`, async () => {
      const request = { model: tier, messages: asked(EASY), tools: [WEATHER] };
      const { message } = await client.chat(request);
      assert.deepEqual(
        message.tool_calls.map((call) => call.function.arguments),
        CITIES.map((city) => ({ city })),
      );
      const results = CITIES.map((city) => ({
        role: "tool",
        tool_name: "weather",
        content: `sunny in ${city}`,
      }));
      const messages = [...asked(EASY), message, ...results];
      assert.equal((await client.chat({ ...request, messages })).message.content, TEXT);
      const received = (await calls())[1].body.messages.filter(({ role }) => role === "tool");
      assert.deepEqual(
        received.map(({ content }) => content),
        CITIES.map((city) => `sunny in ${city}`),
      );
    });

    test(`structured output, ${tier}`, async () => {
      const format = z.toJSONSchema(Report);
      const { message } = await client.chat({ model: tier, messages: asked(EASY), format });
      assert.deepEqual(JSON.parse(message.content), REPORT);
    });

    test(`errors within a stream, ${tier}`, async () => {
      const request = { model: tier, messages: asked(`VANISH ${EASY}`), stream: true };
      const stream = await client.chat(request);
      await assert.rejects(async () => {
        for await (const _ of stream);
      }, new RegExp(`The ${tier} upstream interrupted its response`));
    });
  }
});
