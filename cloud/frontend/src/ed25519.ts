// Ed25519 for browsers whose WebCrypto lacks it (before Chrome 137, Firefox 129, Safari 17).
// static/verify.js loads this file only after importing a key has failed there.
import { Point } from "@noble/ed25519";

const ORDER = Point.CURVE().n;

/**
 * True when `signature` (64 bytes) over `message` was made by the owner of `publicKey` (32 bytes).
 *
 * The equation is the one without the cofactor, S·B = R + k·A, as OpenSSL and the browsers compute it. The library's own
 * check multiplies both sides by 8 and so takes signatures that they refuse: a proof must not be good on an old phone only.
 */
export async function verify(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): Promise<boolean> {
  const [commitment, scalar] = [signature.slice(0, 32), littleEndian(signature.slice(32))];
  const challenge = await crypto.subtle.digest("SHA-512", Uint8Array.from([...commitment, ...publicKey, ...message]));
  try {
    const [key, point] = [Point.fromBytes(publicKey), Point.fromBytes(commitment)];
    const pulled = key.multiply(littleEndian(new Uint8Array(challenge)) % ORDER, false);
    return scalar < ORDER && !key.isSmallOrder() && Point.BASE.multiply(scalar, false).equals(point.add(pulled));
  } catch {
    return false; // not a point of the curve
  }
}

function littleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}
