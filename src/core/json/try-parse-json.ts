/** The value of a JSON text that the proxy wrote; `undefined` if it is not JSON. Does not bound its size. */
export function tryParseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
