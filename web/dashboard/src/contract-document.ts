// The OpenAPI document of the API as pages read it: operations, what each needs, and what a caller may.

/** One way of being allowed: a kind of credential, with every scope that it must hold. */
export type Way = { kind: string; scopes: string[] };
export type Operation = { id: string; method: string; path: string; summary: string; tag: string; reserved: boolean; ways: Way[] };

type Declared = { operationId: string; summary?: string; tags?: string[]; security?: Record<string, string[]>[]; 'x-reserved'?: unknown };
export type Document = {
  paths: Record<string, Record<string, unknown>>;
  components: { securitySchemes: Record<string, { 'x-credential': string }> };
};

const METHODS = ['get', 'post', 'put', 'patch', 'delete'];

export function operations(document: Document): Operation[] {
  const kind = (scheme: string) => document.components.securitySchemes[scheme]?.['x-credential'] ?? scheme;
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    METHODS.filter((method) => method in methods).map((method) => {
      const it = methods[method] as Declared;
      return {
        id: it.operationId,
        method: method.toUpperCase(),
        path,
        summary: it.summary ?? '',
        tag: it.tags?.[0] ?? 'other',
        reserved: Boolean(it['x-reserved']),
        ways: (it.security ?? []).flatMap((way) => Object.entries(way).map(([scheme, scopes]) => ({ kind: kind(scheme), scopes }))),
      };
    }),
  );
}

export type Verdict = { answer: 'allowed' | 'reserved' } | { answer: 'other credential'; kinds: string[] } | { answer: 'lacks'; missing: string[] };

/** What a caller of this kind with these scopes may, in the order in which the server refuses: kind, reserved, scope. */
export function verdict(of: Operation, kind: string, scopes: string[]): Verdict {
  const mine = of.ways.filter((way) => way.kind === kind);
  if (of.ways.length > 0 && mine.length === 0) return { answer: 'other credential', kinds: [...new Set(of.ways.map((way) => way.kind))] };
  if (of.reserved) return { answer: 'reserved' };
  if (of.ways.length === 0 || mine.some((way) => way.scopes.every((scope) => scopes.includes(scope)))) return { answer: 'allowed' };
  return { answer: 'lacks', missing: mine.map((way) => way.scopes.filter((scope) => !scopes.includes(scope)).join(' and ')) };
}
