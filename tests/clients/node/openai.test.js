// The OpenAI client for JavaScript.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { CITIES, EASY, HARD, LOCAL_MODEL, REPORT, Report, TEXT, TIERS } from "./stage.js";
import { calls, measure, released, tiers } from "./stage.js";

const client = new OpenAI({ maxRetries: 0 }); // the address is in the environment
const asked = (content) => [{ role: "user", content }];
const PARAMETERS = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const WEATHER = { type: "function", function: { name: "weather", parameters: PARAMETERS } };

describe("openai", () => {
  test("chat goes where the router decides", async () => {
    for (const prompt of [EASY, HARD]) {
      const completion = await client.chat.completions.create({
        model: "auto",
        messages: asked(prompt),
      });
      assert.equal(completion.choices[0].message.content, TEXT);
      assert.equal(completion.usage.total_tokens, 29);
    }
    assert.deepEqual(await tiers(), TIERS);
  });

  test("saved", (t) =>
    measure(t, (task) =>
      new OpenAI().chat.completions.create({ model: "auto", messages: asked(task) }),
    ));

  test("chat shows the router's headers", async () => {
    const { data, response, request_id } = await client.chat.completions
      .create({ model: "gpt-4o-mini", messages: asked(EASY) })
      .withResponse();
    assert.equal(data.choices[0].message.content, TEXT);
    assert.equal(response.headers.get("x-router-target"), "local");
    assert.equal(response.headers.get("x-router-model"), LOCAL_MODEL);
    assert.equal(response.headers.get("x-request-id"), request_id);
  });

  test("chat is forced by header", async () => {
    await client.chat.completions.create(
      { model: "auto", messages: asked(EASY) },
      { headers: { "x-router-target": "cloud" } },
    );
    assert.deepEqual(await tiers(), ["cloud"]);
  });

  for (const tier of TIERS) {
    test(`stream, ${tier}`, async () => {
      const stream = await client.chat.completions.create({
        model: tier,
        messages: asked(EASY),
        stream: true,
      });
      let text = "";
      for await (const chunk of stream) text += chunk.choices[0].delta.content ?? "";
      assert.equal(text, TEXT);
    });

    test(`stream with the helper, with usage, ${tier}`, async () => {
      const stream = client.chat.completions.stream({
        model: tier,
        messages: asked(EASY),
        stream_options: { include_usage: true },
      });
      assert.equal(await stream.finalContent(), TEXT);
      assert.equal((await stream.totalUsage()).total_tokens, 29);
    });

    test(`stream aborted by the client stops the upstream, ${tier}`, async () => {
      const stream = await client.chat.completions.create({
        model: tier,
        messages: asked(`HANG ${EASY}`),
        stream: true,
      });
      for await (const _ of stream) break; // leaving the loop aborts the request
      await released();
    });

    test(`tools run by the runner, ${tier}`, async () => {
      const asksFor = [];
      const runner = client.chat.completions.runTools({
        model: tier,
        messages: asked(EASY),
        tools: [
          {
            type: "function",
            function: {
              name: "weather",
              parameters: PARAMETERS,
              parse: JSON.parse,
              function: ({ city }) => asksFor.push(city) && `sunny in ${city}`,
            },
          },
        ],
      });
      assert.equal(await runner.finalContent(), TEXT);
      assert.deepEqual(asksFor, CITIES);
      const results = (await calls())[1].body.messages.filter(({ role }) => role === "tool");
      assert.deepEqual(
        results.map(({ content }) => content),
        CITIES.map((city) => `sunny in ${city}`),
      );
    });

    test(`tools streamed, ${tier}`, async () => {
      const stream = client.chat.completions.stream({
        model: tier,
        messages: asked(EASY),
        tools: [WEATHER],
      });
      const { tool_calls } = await stream.finalMessage();
      assert.deepEqual(
        tool_calls.map((call) => JSON.parse(call.function.arguments).city),
        CITIES,
      );
    });

    test(`structured output, ${tier}`, async () => {
      const completion = await client.chat.completions.parse({
        model: tier,
        messages: asked(EASY),
        response_format: zodResponseFormat(Report, "report"),
      });
      assert.deepEqual(completion.choices[0].message.parsed, REPORT);
    });

    test(`responses, ${tier}`, async () => {
      const first = await client.responses.create({ model: tier, input: EASY });
      assert.equal(first.output_text, TEXT);
      assert.equal(first.usage.total_tokens, 29);
      const second = await client.responses.create({
        model: "auto",
        input: "And 3+3?",
        previous_response_id: first.id,
      });
      assert.equal(second.output_text, TEXT);
    });

    test(`responses streamed, ${tier}`, async () => {
      const stream = await client.responses.create({ model: tier, input: EASY, stream: true });
      let text = "";
      const kinds = [];
      for await (const event of stream) {
        kinds.push(event.type);
        if (event.type === "response.output_text.delta") text += event.delta;
      }
      assert.equal(text, TEXT);
      assert.equal(kinds.at(-1), "response.completed");
    });

    test(`responses with structured output, ${tier}`, async () => {
      const response = await client.responses.parse({
        model: tier,
        input: EASY,
        text: { format: zodTextFormat(Report, "report") },
      });
      assert.deepEqual(response.output_parsed, REPORT);
    });

    test(`responses with tools, with the helper, ${tier}`, async () => {
      const tools = [{ type: "function", name: "weather", parameters: PARAMETERS, strict: true }];
      const stream = client.responses.stream({ model: tier, input: EASY, tools });
      const { output } = await stream.finalResponse();
      assert.deepEqual(
        output.map((call) => JSON.parse(call.arguments).city),
        CITIES,
      );
    });

    test(`errors within a stream, ${tier}`, async () => {
      for (const trouble of ["BREAK", "VANISH"]) {
        const stream = await client.chat.completions.create({
          model: tier,
          messages: asked(`${trouble} ${EASY}`),
          stream: true,
        });
        let text = "";
        await assert.rejects(async () => {
          for await (const chunk of stream) text += chunk.choices[0].delta.content ?? "";
        }, OpenAI.APIError);
        assert.ok(text && TEXT.startsWith(text));
      }
    });

    test(`errors within streamed responses, ${tier}`, async () => {
      const input = `VANISH ${EASY}`;
      const stream = await client.responses.create({ model: tier, input, stream: true });
      await assert.rejects(async () => {
        for await (const event of stream) assert.notEqual(event.type, "response.completed");
      }, OpenAI.APIError);
    });
  }

  test("errors of an aborted request", async () => {
    const messages = asked(`HANG ${EASY}`);
    const signal = AbortSignal.timeout(500);
    await assert.rejects(
      client.chat.completions.create({ model: "local", messages }, { signal }),
      OpenAI.APIUserAbortError,
    );
    await released();
  });

  test("errors of an invalid request", async () => {
    await assert.rejects(
      client.chat.completions.create({ model: "auto", messages: [] }),
      (error) => error instanceof OpenAI.BadRequestError && error.param === "messages",
    );
  });

  test("images go to a vision model", async () => {
    const image_url = { url: "data:image/png;base64,iVBORw0KGgo=" };
    const content = [
      { type: "text", text: EASY },
      { type: "image_url", image_url },
    ];
    await client.chat.completions.create({ model: "auto", messages: asked(content) });
    const [call] = await calls();
    assert.deepEqual([call.tier, call.body.messages[0].content], ["cloud", content]);
  });

  test("embeddings", async () => {
    const answer = await client.embeddings.create({ model: "text-embedding-3-small", input: ["a"] });
    assert.deepEqual(answer.data[0].embedding, [0.25, -0.5, 0.125]);
  });

  test("models are listed", async () => {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    for (const name of ["auto", "local", "cloud", LOCAL_MODEL]) assert.ok(names.includes(name));
    assert.equal((await client.models.retrieve(LOCAL_MODEL)).id, LOCAL_MODEL);
  });
});
