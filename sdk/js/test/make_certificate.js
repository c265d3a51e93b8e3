/** Makes a certificate for a name and this machine, which vouches for itself, and returns the files of it and of its key. */

import { execFileSync } from "node:child_process";
import { join } from "node:path";

export function makeCertificate(folder, name) {
  const [certificate, key] = ["cert.pem", "key.pem"].map((file) => join(folder, `${name}.${file}`));
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  const subject = ["-subj", `/CN=${name}`, "-addext", `subjectAltName=DNS:${name},IP:127.0.0.1`];
  execFileSync("openssl", ["req", "-x509", ...kind, "-keyout", key, "-out", certificate, ...subject], { stdio: "ignore" });
  return { certificate, key };
}
