// What the pages read, by name, so that a change can say what it made old. Whatever belongs to an organization is kept under its id
// and asked for in its name, so that nothing of one is ever shown under another's.
import { MutationCache, QueryClient, infiniteQueryOptions, queryOptions } from '@tanstack/react-query';
import { Refusal, all, api, ask, asking, contractDocument, page, type ApiKey, type Client, type Page, type Session } from './api';
import type { paths } from './contract';
import type { Document } from './contract-document';
import { isHeld } from './held';

declare const organizationId: unique symbol;
type OrganizationId = string & { readonly [organizationId]: true };
/** Whose it is comes first; a key that begins with anything else does not compile. */
export type Key = readonly ['everybody' | OrganizationId, ...unknown[]];

declare module '@tanstack/react-query' {
  interface Register {
    queryKey: Key;
  }
}

export const queries = new QueryClient({
  // Whatever was changed, lists, pages and the audit log agree with it: what is in view is read again, the rest when it is next seen.
  // What leaves the page (signing out, another organization) clears all of it instead.
  mutationCache: new MutationCache({
    onSettled: (_data, _error, _variables, _result, mutation) => {
      if (mutation.meta?.['leaves'] !== true) void queries.invalidateQueries();
    },
  }),
  defaultOptions: {
    // Without a network a call fails, and says so; nothing waits in silence to be sent later.
    mutations: { networkMode: 'always' },
    queries: {
      networkMode: 'always',
      staleTime: 5_000,
      // What the server refuses it refuses again.
      retry: (count, error) => count < 2 && error instanceof Refusal && error.problem.status >= 500,
    },
  },
});

/** `elsewhere`: the organization that another tab has gone to, while this page stays where something on it is not saved. */
type Known = Session & { elsewhere?: Session['organization'] };

const SESSION: Key = ['everybody', 'session'];

export const session = queryOptions({
  queryKey: SESSION,
  queryFn: async (): Promise<Known> => {
    const now = await ask(api.GET('/auth/session'));
    const before = queries.getQueryData<Known>(SESSION);
    return before && before.organization.id !== now.organization.id && isHeld() ? { ...before, elsewhere: now.organization } : now;
  },
  staleTime: 60_000,
});

/** The organization that the session is in, as far as this tab knows. */
function organization(): OrganizationId {
  return (queries.getQueryData(session.queryKey)?.organization.id ?? '') as OrganizationId;
}

/** A name under that organization. */
export function own(...name: unknown[]): Key {
  return [organization(), ...name];
}

/** Something that is read of that organization. */
export function mine<T>(name: unknown[], read: (api: Client) => Promise<T>) {
  const client = asking(organization());
  return queryOptions({ queryKey: own(...name), queryFn: () => read(client) });
}

/** The pages of a list of that organization, one after another. */
export function pagesOfMine<P extends Page<unknown>>(name: unknown[], read: (api: Client, cursor: string | undefined) => Promise<P>) {
  const client = asking(organization());
  return infiniteQueryOptions({
    queryKey: own(...name),
    initialPageParam: undefined as string | undefined,
    queryFn: ({ pageParam }) => read(client, pageParam),
    getNextPageParam: (last) => last.next ?? undefined,
  });
}

/** What the invite behind a link says, to whoever holds the link. */
export const standingInvite = (token: string) =>
  queryOptions({ queryKey: ['everybody', 'invite'], queryFn: () => ask(api.POST('/auth/invites/read', { body: { token } })), retry: false, refetchOnWindowFocus: false });

export const scopes = queryOptions({ queryKey: ['everybody', 'scopes'], queryFn: () => ask(api.GET('/scopes')), staleTime: Infinity });

export type KeyFilter = NonNullable<paths['/api-keys']['get']['parameters']['query']>;

/** Keys of one page of the Developer page. */
export const KEYS_SHOWN = 50;

/** One page of keys. The server looks at a bounded number of them at a time, so it is asked again until the page is full. */
export const keys = (filter: Omit<KeyFilter, 'limit'>) =>
  mine(['keys', 'list', filter], async (api) => {
    const items: ApiKey[] = [];
    let next = filter.cursor ?? null;
    do {
      const query = { ...filter, limit: KEYS_SHOWN - items.length, ...(next === null ? {} : { cursor: next }) };
      const more: Page<ApiKey[]> = await page(api.GET('/api-keys', { params: { query } }));
      items.push(...more.items);
      next = more.next;
    } while (next !== null && items.length < KEYS_SHOWN);
    return { items, next };
  });

export const key = (id: string) => mine(['keys', 'one', id], (api) => ask(api.GET('/api-keys/{id}', { params: { path: { id } } })));

export const usage = (id: string) => mine(['keys', 'one', id, 'usage'], (api) => ask(api.GET('/api-keys/{id}/usage', { params: { path: { id } } })));

export const advice = (id: string) => mine(['keys', 'one', id, 'advice'], (api) => ask(api.GET('/api-keys/{id}/scope-advice', { params: { path: { id } } })));

/** What was lately done with a key. */
export const keyTrail = (id: string) => mine(['keys', 'one', id, 'trail'], (api) => page(api.GET('/audit-events', { params: { query: { target: id, limit: 20 } } })));

export const agents = () => mine(['agents'], (api) => all((cursor) => page(api.GET('/agents', { params: { query: rows(cursor) } }))));

type AgentFilter = Omit<NonNullable<paths['/agents']['get']['parameters']['query']>, 'limit' | 'cursor'>;

export const agentsFound = (filter: AgentFilter) =>
  pagesOfMine(['agents', 'list', filter], (api, cursor) => page(api.GET('/agents', { params: { query: { ...rows(cursor), limit: 50, ...filter } } })));

export const agent = (id: string) => mine(['agents', id], (api) => ask(api.GET('/agents/{id}', { params: { path: { id } } })));

export const versions = (id: string) =>
  pagesOfMine(['agents', id, 'versions'], (api, cursor) => page(api.GET('/agents/{id}/versions', { params: { path: { id }, query: { ...rows(cursor), limit: 20 } } })));

/** What the draft of this number changes of a version. */
export const difference = (id: string, versionId: string, draft: number) =>
  mine(['agents', id, 'versions', versionId, 'diff', draft], (api) =>
    ask(api.GET('/agents/{id}/versions/{versionId}/diff', { params: { path: { id, versionId } } })),
  );

type PublishableKeyFilter = Omit<NonNullable<paths['/agents/{agentId}/publishable-keys']['get']['parameters']['query']>, 'limit' | 'cursor'>;

export const publishableKeys = (agentId: string, filter: PublishableKeyFilter) =>
  pagesOfMine(['agents', agentId, 'publishable-keys', filter], (api, cursor) =>
    page(api.GET('/agents/{agentId}/publishable-keys', { params: { path: { agentId }, query: { ...rows(cursor), limit: 50, ...filter } } })),
  );

export const widget = (agentId: string) => mine(['agents', agentId, 'widget'], (api) => ask(api.GET('/agents/{agentId}/widget', { params: { path: { agentId } } })));

export const members = () => mine(['members'], (api) => all((cursor) => page(api.GET('/members', { params: { query: rows(cursor) } }))));

type MemberFilter = Omit<NonNullable<paths['/members']['get']['parameters']['query']>, 'limit' | 'cursor'>;

export const membersFound = (filter: MemberFilter) =>
  pagesOfMine(['members', 'list', filter], (api, cursor) => page(api.GET('/members', { params: { query: { ...rows(cursor), limit: 50, ...filter } } })));

export const invites = () => mine(['invites'], (api) => all((cursor) => page(api.GET('/invites', { params: { query: rows(cursor) } }))));

export const sessions = () => mine(['sessions'], (api) => page(api.GET('/auth/sessions', { params: { query: { limit: 100 } } })));

export const reference = queryOptions({
  queryKey: ['everybody', 'reference'],
  queryFn: async () => (await contractDocument()) as Document,
  staleTime: Infinity,
});

export const knowledgeSources = (agentId: string) =>
  mine(['agents', agentId, 'knowledge'], (api) =>
    all((cursor) => page(api.GET('/agents/{agentId}/knowledge/sources', { params: { path: { agentId }, query: rows(cursor) } }))),
  );

export const skills = (agentId: string) =>
  mine(['agents', agentId, 'skills'], (api) => all((cursor) => page(api.GET('/agents/{agentId}/skills', { params: { path: { agentId }, query: rows(cursor) } }))));

export const skillTypes = queryOptions({ queryKey: ['everybody', 'skill-types'], queryFn: () => ask(api.GET('/skill-types')), staleTime: Infinity });

export const wallet = () => mine(['billing', 'wallet'], (api) => ask(api.GET('/billing/wallet')));

export const plans = queryOptions({ queryKey: ['everybody', 'plans'], queryFn: () => ask(api.GET('/billing/plans')), staleTime: Infinity });

export const billingUsage = () => mine(['billing', 'usage'], (api) => ask(api.GET('/billing/usage')));

export const charges = () =>
  pagesOfMine(['billing', 'items'], (api, cursor) => page(api.GET('/billing/usage/items', { params: { query: { ...rows(cursor), limit: 50 } } })));

export const numbers = () => mine(['numbers'], (api) => all((cursor) => page(api.GET('/numbers', { params: { query: rows(cursor) } }))));

type ConversationFilter = Omit<NonNullable<paths['/conversations']['get']['parameters']['query']>, 'limit' | 'cursor'>;

export const conversations = (filter: ConversationFilter) =>
  pagesOfMine(['conversations', 'list', filter], (api, cursor) => page(api.GET('/conversations', { params: { query: { ...rows(cursor), limit: 50, ...filter } } })));

export type AuditFilter = Omit<NonNullable<paths['/audit-events']['get']['parameters']['query']>, 'limit' | 'cursor'>;

export const auditEvents = (filter: AuditFilter) =>
  pagesOfMine(['audit', filter], (api, cursor) => page(api.GET('/audit-events', { params: { query: { ...rows(cursor), limit: 50, ...filter } } })));

export const conversation = (id: string) => mine(['conversations', id], (api) => ask(api.GET('/conversations/{id}', { params: { path: { id } } })));

export const transcript = (id: string) =>
  mine(['conversations', id, 'transcript'], (api) =>
    all((cursor) => page(api.GET('/conversations/{id}/transcript', { params: { path: { id }, query: rows(cursor) } }))),
  );

export const receipt = (id: string) =>
  mine(['conversations', id, 'receipt'], (api) => all((cursor) => page(api.GET('/conversations/{id}/receipt', { params: { path: { id }, query: rows(cursor) } }))));

export type Environment = 'live' | 'test';

export const analyticsOverview = (environment: Environment) =>
  mine(['analytics', environment, 'overview'], (api) => ask(api.GET('/analytics/overview', { params: { query: { environment } } })));

export const analyticsTimeseries = (environment: Environment) =>
  mine(['analytics', environment, 'timeseries'], (api) => ask(api.GET('/analytics/timeseries', { params: { query: { environment } } })));

export const analyticsByAgent = (environment: Environment) =>
  mine(['analytics', environment, 'by-agent'], (api) => all((cursor) => page(api.GET('/analytics/by-agent', { params: { query: { environment, ...rows(cursor) } } }))));

export const gaps = (agentId: string, environment: Environment) =>
  mine(['gaps', agentId, environment], (api) => ask(api.GET('/agents/{agentId}/knowledge-gaps', { params: { path: { agentId }, query: { environment } } })));


/** As many rows as a page of the API holds, from where the one before ended. */
function rows(cursor: string | undefined): { limit: number; cursor?: string } {
  return { limit: 100, ...(cursor === undefined ? {} : { cursor }) };
}

/** What a member holds, so that pages offer what would be permitted. The server decides. */
export function holds(of: { scopes: string[] } | undefined, scope: string): boolean {
  return of?.scopes.includes(scope) ?? false;
}
