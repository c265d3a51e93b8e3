/**
 * What settings name for TLS: the authorities that are trusted, and the certificate that is shown with its key. A client
 * reads them when it is made, so that a mistake is told where it was made, and again whenever it connects: others renew them.
 */

import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { fieldInvalid, textOf } from "./errors.js";
import type { Settings } from "./settings.js";

/** What is in the files, as PEM, by the names that Node's TLS has for it. What is not named is not there. */
export interface TlsFiles {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

/** Reads the files and tries them out. Raises `FIELD_INVALID` with the setting's name. */
export function readTlsFiles({ caFile, certificate, certificateKey }: Settings): TlsFiles {
  const ca = caFile === undefined ? undefined : contentOf("ca_file", caFile);
  if (ca !== undefined) certificateIn(ca, "ca_file", caFile!);
  if (certificate === undefined || certificateKey === undefined) return { ...(ca && { ca }) };
  const cert = contentOf("certificate", certificate);
  const key = contentOf("certificate_key", certificateKey);
  const shown = certificateIn(cert, "certificate", certificate);
  if (!shown.checkPrivateKey(keyIn(key, certificateKey))) {
    throw fieldInvalid("certificate_key", `${certificateKey} is not the key of the certificate in ${certificate}`);
  }
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    throw fieldInvalid("certificate", `${certificate} cannot be shown: ${textOf(error)}`);
  }
  return { ...(ca && { ca }), cert, key };
}

/** Whether the same was in the files. */
export function isSameContent(one: TlsFiles, other: TlsFiles): boolean {
  return (["ca", "cert", "key"] as const).every((name) => {
    const [mine, theirs] = [one[name], other[name]];
    return mine === undefined || theirs === undefined ? mine === theirs : mine.equals(theirs);
  });
}

function contentOf(setting: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw fieldInvalid(setting, `cannot be read: ${error instanceof Error ? error.message : textOf(error)}`);
  }
}

function certificateIn(content: Buffer, setting: string, path: string): X509Certificate {
  try {
    return new X509Certificate(content);
  } catch {
    throw fieldInvalid(setting, `${path} holds no certificate in PEM`);
  }
}

function keyIn(content: Buffer, path: string): KeyObject {
  try {
    return createPrivateKey(content);
  } catch {
    throw fieldInvalid("certificate_key", `${path} holds no private key in PEM, without a passphrase`);
  }
}
