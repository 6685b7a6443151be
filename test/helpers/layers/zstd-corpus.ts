/** A frame that decoders pass over (RFC 8878, 3.1.2); `variant` is 0 to 15. */
export function skippableFrame(variant: number, payloadBytes: number): Uint8Array {
  const frame = Buffer.alloc(8 + payloadBytes, 0xa5);
  frame.writeUInt32LE(0x184d2a50 + variant, 0);
  frame.writeUInt32LE(payloadBytes, 4);
  return frame;
}
