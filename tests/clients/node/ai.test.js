// The Vercel AI SDK with both providers that accept a base URL.

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateObject, generateText, isStepCount, Output, streamText, tool } from "ai";
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { z } from "zod";
import { CITIES, EASY, HARD, REPORT, Report, TEXT, TIERS } from "./stage.js";
import { calls, measure, released, tiers } from "./stage.js";

const makeOpenAI = () =>
  createOpenAI({ baseURL: process.env.OPENAI_BASE_URL, apiKey: "unused" });
const makeCompatible = () =>
  createOpenAICompatible({
    name: "router",
    baseURL: process.env.OPENAI_BASE_URL,
    apiKey: "unused",
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
const openai = makeOpenAI();
const compatible = makeCompatible();

const weather = tool({
  description: "Tell the weather of a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `sunny in ${city}`,
});

const KINDS = {
  "@ai-sdk/openai": {
    make: makeOpenAI,
    chat: openai.chat,
    responses: openai.responses,
    other: openai,
  },
  "@ai-sdk/openai-compatible": {
    make: makeCompatible,
    chat: compatible.chatModel,
    other: compatible,
  },
};

for (const [name, provider] of Object.entries(KINDS)) {
  const { chat } = provider;

  describe(name, () => {
    test("chat goes where the router decides", async () => {
      for (const prompt of [EASY, HARD]) {
        const { text, usage, response } = await generateText({ model: chat("auto"), prompt });
        assert.equal(text, TEXT);
        assert.equal(usage.totalTokens, 29);
        assert.ok(TIERS.includes(response.headers["x-router-target"]));
      }
      assert.deepEqual(await tiers(), TIERS);
    });

    test("saved", (t) =>
      measure(t, (prompt) => generateText({ model: provider.make()("auto"), prompt })));

    test("embeddings", async () => {
      const model = provider.other.embeddingModel("text-embedding-3-small");
      const { embeddings } = await embedMany({ model, values: ["a", "b"] });
      assert.deepEqual(embeddings, [
        [0.25, -0.5, 0.125],
        [0.25, -0.5, 0.125],
      ]);
    });

    if (provider.responses)
      test("responses: a conversation that started locally continues at both tiers", async () => {
        const begun = { role: "user", content: EASY };
        const model = provider.responses;
        const { response } = await generateText({ model: model("local"), messages: [begun] });
        for (const [tier, content] of [
          ["local", EASY],
          ["cloud", HARD],
        ]) {
          // Earlier messages are sent as references to the server's copy.
          const messages = [begun, ...response.messages, { role: "user", content }];
          const { text } = await generateText({ model: model("auto"), messages });
          assert.equal(text, TEXT);
          const call = (await calls()).at(-1);
          assert.equal(call.tier, tier);
          assert.ok(JSON.stringify(call.body.input).includes(TEXT), "the words themselves");
          assert.ok(!JSON.stringify(call.body.input).includes("item_reference"));
        }
      });

    test("images go to a vision model", async () => {
      const { text } = await generateText({
        model: chat("auto"),
        messages: [
          {
            role: "user",
            content: [
              { type: "text", text: EASY },
              { type: "file", mediaType: "image/png", data: Buffer.from("iVBORw0KGgo=", "base64") },
            ],
          },
        ],
      });
      assert.equal(text, TEXT);
      const [call] = await calls();
      assert.equal(call.tier, "cloud");
      assert.match(call.body.messages[0].content[1].image_url.url, /^data:image\/png;base64,iVBOR/);
    });

    for (const tier of TIERS) {
      talk(tier, "", chat);
      if (provider.responses) talk(tier, "responses: ", provider.responses);
    }
  });
}

// The tests of both interfaces at each tier.
function talk(tier, prefix, make) {
  const model = make(tier);

  test(`${prefix}stream, ${tier}`, async () => {
    const result = streamText({ model, prompt: EASY });
    let text = "";
    for await (const piece of result.textStream) text += piece;
    assert.equal(text, TEXT);
    assert.equal((await result.usage).totalTokens, 29);
    assert.equal(await result.finishReason, "stop");
  });

  test(`${prefix}stream aborted by the client stops the upstream, ${tier}`, async () => {
    const leaving = new AbortController();
    const { textStream } = streamText({
      model,
      prompt: `HANG ${EASY}`,
      abortSignal: leaving.signal,
    });
    for await (const _ of textStream) leaving.abort();
    await released();
  });

  test(`${prefix}tools, ${tier}`, async () => {
    const tools = { weather };
    const { text, steps } = await generateText({
      model,
      tools,
      prompt: EASY,
      stopWhen: isStepCount(3),
    });
    assert.equal(text, TEXT);
    assert.deepEqual(
      steps[0].toolResults.map(({ output }) => output),
      CITIES.map((city) => `sunny in ${city}`),
    );
  });

  test(`${prefix}tools streamed, ${tier}`, async () => {
    const tools = { weather };
    const result = streamText({ model, tools, prompt: EASY, stopWhen: isStepCount(3) });
    assert.equal(await result.text, TEXT);
    const [first] = await result.steps;
    assert.deepEqual(
      first.toolCalls.map(({ input }) => input.city),
      CITIES,
    );
  });

  test(`${prefix}structured output, ${tier}`, async () => {
    const { object } = await generateObject({ model, schema: Report, prompt: EASY });
    assert.deepEqual(object, REPORT);
    const { output } = await generateText({
      model,
      output: Output.object({ schema: Report }),
      prompt: EASY,
    });
    assert.deepEqual(output, REPORT);
    const paths = new Set((await calls()).map((call) => call.path));
    assert.deepEqual([...paths], [prefix ? "/v1/responses" : "/v1/chat/completions"]);
  });

  test(`${prefix}errors within a stream, ${tier}`, async () => {
    const errors = [];
    const { textStream } = streamText({
      model,
      prompt: `VANISH ${EASY}`,
      onError: ({ error }) => errors.push(error),
    });
    for await (const _ of textStream);
    assert.equal(errors.length, 1);
    const isClear = errors[0].message.startsWith(`The ${tier} upstream interrupted its response`);
    assert.ok(isClear, "the proxy's error message"); // the whole message would be too long
  });
}
