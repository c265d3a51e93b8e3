/** Where a client says what a person should know. It is quiet: one warning for each thing that happened. */

import type { CertesError } from "./errors.js";

/** Takes warnings. `console` is one. */
export interface Logger {
  /** Takes one warning: what happened, and the error that it happened by. */
  warn(message: string, error?: CertesError): void;
}

/** Hands warnings to `process.emitWarning`, which writes them to standard error unless a program has its own ways. */
export const warnings: Logger = {
  warn(message, error) {
    process.emitWarning(message, { type: "CertesWarning", ...(error && { code: error.reason }) });
  },
};
