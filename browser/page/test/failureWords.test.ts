import { CommandTimeoutError, ConnectionEndedError, ServiceError, TransportError } from "session-service-client";
import { expect, it } from "vitest";
import { failureWords } from "../src/model/failureWords.ts";

it("an answer of the service is told by its code", () => {
  expect(failureWords(new ServiceError("SIMULATOR_NOT_RUNNING", "not running"))).toContain("Start it");
});

it.each([new CommandTimeoutError("late", "r1"), new ConnectionEndedError("SESSION_ENDED", "ended")])(
  "where the outcome is unknown one is told to look: %s",
  (error) => {
    expect(failureWords(error)).toMatch(/may have been carried out.* look/i);
  },
);

it("no answer is no more than that", () => {
  expect(failureWords(new TransportError("no answer"))).toContain("did not answer");
});
