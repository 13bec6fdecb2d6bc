// Ed25519 for browsers whose WebCrypto lacks it (before Chrome 137, Firefox 129, Safari 17).
// static/verify.js loads this file only after importing a key has failed there.
import { verifyAsync } from "@noble/ed25519";

/** True when `signature` (64 bytes) over `message` was made by the owner of `publicKey` (32 bytes). */
export function verify(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): Promise<boolean> {
  // RFC 8032 rules, as the checkers in Python and WebCrypto: no lenient point encodings.
  return verifyAsync(signature, message, publicKey, { zip215: false });
}
