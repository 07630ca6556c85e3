// What the pages read, by name, so that a change can say what it made old.
import { MutationCache, QueryClient, queryOptions } from '@tanstack/react-query';
import { Refusal, all, api, ask, page } from './api';
import type { Document } from './contract-document';

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

export const session = queryOptions({ queryKey: ['session'], queryFn: () => ask(api.GET('/auth/session')), staleTime: 60_000 });

export const scopes = queryOptions({ queryKey: ['scopes'], queryFn: () => ask(api.GET('/scopes')), staleTime: Infinity });

export const keys = queryOptions({
  queryKey: ['keys'],
  queryFn: () => all((cursor) => page(api.GET('/api-keys', { params: { query: { limit: 100, ...(cursor ? { cursor } : {}) } } }))),
});

export const key = (id: string) =>
  queryOptions({ queryKey: ['keys', id], queryFn: () => ask(api.GET('/api-keys/{id}', { params: { path: { id } } })) });

export const usage = (id: string) =>
  queryOptions({ queryKey: ['keys', id, 'usage'], queryFn: () => ask(api.GET('/api-keys/{id}/usage', { params: { path: { id } } })) });

export const advice = (id: string) =>
  queryOptions({ queryKey: ['keys', id, 'advice'], queryFn: () => ask(api.GET('/api-keys/{id}/scope-advice', { params: { path: { id } } })) });

export const agents = queryOptions({
  queryKey: ['agents'],
  queryFn: () => all((cursor) => page(api.GET('/agents', { params: { query: { limit: 100, ...(cursor ? { cursor } : {}) } } }))),
});

export const agent = (id: string) =>
  queryOptions({ queryKey: ['agents', id], queryFn: () => ask(api.GET('/agents/{id}', { params: { path: { id } } })) });

export const versions = (id: string) =>
  queryOptions({
    queryKey: ['agents', id, 'versions'],
    queryFn: () => page(api.GET('/agents/{id}/versions', { params: { path: { id }, query: { limit: 100 } } })),
  });

/** What the draft of this number changes of a version. */
export const difference = (id: string, versionId: string, draft: number) =>
  queryOptions({
    queryKey: ['agents', id, 'versions', versionId, 'diff', draft],
    queryFn: () => ask(api.GET('/agents/{id}/versions/{versionId}/diff', { params: { path: { id, versionId } } })),
  });

export const publishableKeys = (agentId: string) =>
  queryOptions({
    queryKey: ['agents', agentId, 'publishable-keys'],
    queryFn: () => page(api.GET('/agents/{agentId}/publishable-keys', { params: { path: { agentId }, query: { limit: 100 } } })),
  });

export const widget = (agentId: string) =>
  queryOptions({ queryKey: ['agents', agentId, 'widget'], queryFn: () => ask(api.GET('/agents/{agentId}/widget', { params: { path: { agentId } } })) });

export const members = queryOptions({
  queryKey: ['members'],
  queryFn: () => all((cursor) => page(api.GET('/members', { params: { query: { limit: 100, ...(cursor ? { cursor } : {}) } } }))),
});

export const invites = queryOptions({ queryKey: ['invites'], queryFn: () => page(api.GET('/invites', { params: { query: { limit: 100 } } })) });

export const sessions = queryOptions({
  queryKey: ['sessions'],
  queryFn: () => page(api.GET('/auth/sessions', { params: { query: { limit: 100 } } })),
});

export const reference = queryOptions({
  queryKey: ['reference'],
  queryFn: async () => (await (await fetch('/api/v1/openapi.json')).json()) as Document,
  staleTime: Infinity,
});

export const knowledgeSources = (agentId: string) =>
  queryOptions({
    queryKey: ['agents', agentId, 'knowledge'],
    queryFn: () =>
      all((cursor) => page(api.GET('/agents/{agentId}/knowledge/sources', { params: { path: { agentId }, query: { limit: 100, ...(cursor ? { cursor } : {}) } } }))),
  });

export const skills = (agentId: string) =>
  queryOptions({
    queryKey: ['agents', agentId, 'skills'],
    queryFn: () => all((cursor) => page(api.GET('/agents/{agentId}/skills', { params: { path: { agentId }, query: { limit: 100, ...(cursor ? { cursor } : {}) } } }))),
  });

export const skillTypes = queryOptions({ queryKey: ['skill-types'], queryFn: () => ask(api.GET('/skill-types')), staleTime: Infinity });

export const wallet = queryOptions({ queryKey: ['billing', 'wallet'], queryFn: () => ask(api.GET('/billing/wallet')) });

export const plans = queryOptions({ queryKey: ['billing', 'plans'], queryFn: () => ask(api.GET('/billing/plans')), staleTime: Infinity });

export const billingUsage = queryOptions({ queryKey: ['billing', 'usage'], queryFn: () => ask(api.GET('/billing/usage')) });

export const numbers = queryOptions({
  queryKey: ['numbers'],
  queryFn: () => all((cursor) => page(api.GET('/numbers', { params: { query: { limit: 100, ...(cursor ? { cursor } : {}) } } }))),
});

export const conversation = (id: string) =>
  queryOptions({ queryKey: ['conversations', id], queryFn: () => ask(api.GET('/conversations/{id}', { params: { path: { id } } })) });

export const transcript = (id: string) =>
  queryOptions({ queryKey: ['conversations', id, 'transcript'], queryFn: () => ask(api.GET('/conversations/{id}/transcript', { params: { path: { id } } })) });

export const receipt = (id: string) =>
  queryOptions({ queryKey: ['conversations', id, 'receipt'], queryFn: () => ask(api.GET('/conversations/{id}/receipt', { params: { path: { id } } })) });

export type Environment = 'live' | 'test';

export const analyticsOverview = (environment: Environment) =>
  queryOptions({ queryKey: ['analytics', environment, 'overview'], queryFn: () => ask(api.GET('/analytics/overview', { params: { query: { environment } } })) });

export const analyticsTimeseries = (environment: Environment) =>
  queryOptions({ queryKey: ['analytics', environment, 'timeseries'], queryFn: () => ask(api.GET('/analytics/timeseries', { params: { query: { environment } } })) });

export const analyticsByAgent = (environment: Environment) =>
  queryOptions({
    queryKey: ['analytics', environment, 'by-agent'],
    queryFn: () => all((cursor) => page(api.GET('/analytics/by-agent', { params: { query: { environment, limit: 100, ...(cursor ? { cursor } : {}) } } }))),
  });

export const gaps = (agentId: string, environment: Environment) =>
  queryOptions({
    queryKey: ['gaps', agentId, environment],
    queryFn: () => ask(api.GET('/agents/{agentId}/knowledge-gaps', { params: { path: { agentId }, query: { environment } } })),
  });

/** What a member holds, so that pages offer what would be permitted. The server decides. */
export function holds(of: { scopes: string[] } | undefined, scope: string): boolean {
  return of?.scopes.includes(scope) ?? false;
}
