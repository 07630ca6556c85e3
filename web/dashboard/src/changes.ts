// What a form changes: only those fields are sent, and only if nobody changed the thing since the form was opened.

/** The fields that differ from how they were. */
export function changes<T extends object>(before: { [F in keyof NoInfer<T>]: unknown }, now: T): Partial<T> {
  const were: Record<string, unknown> = before;
  const differs = ([name, value]: [string, unknown]) => JSON.stringify(value) !== JSON.stringify(were[name]);
  return Object.fromEntries(Object.entries(now).filter(differs)) as Partial<T>;
}

/** The header field that makes a change depend on the state it is based on. */
export function ifMatch(of: { etag?: string }): { 'If-Match'?: string } {
  return of.etag === undefined ? {} : { 'If-Match': `"${of.etag}"` };
}
