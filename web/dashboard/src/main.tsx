import './token';
import { QueryClientProvider } from '@tanstack/react-query';
import { Outlet, RouterProvider, createRootRoute, createRoute, createRouter, notFound, redirect } from '@tanstack/react-router';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { Refusal, onElsewhere } from './api';
import { AgentPage, AgentsPage } from './pages/agents';
import { AnalyticsPage } from './pages/analytics';
import { AuditPage } from './pages/audit';
import { ConversationPage, ConversationsPage } from './pages/conversations';
import { DeveloperPage } from './pages/developer';
import { Invite, SetUp, SignIn, SignUp } from './pages/entry';
import { KeyPage } from './pages/key';
import { MembersPage } from './pages/members';
import { Broken, BrokenAlone, NotFound } from './pages/missing';
import { NumbersPage } from './pages/numbers';
import { Recover } from './pages/recovery';
import { ReferencePage } from './pages/reference';
import { SessionsPage } from './pages/sessions';
import { Shell } from './pages/shell';
import { WalletPage } from './pages/wallet';
import { queries, scopes, session } from './queries';
import { learnSession } from './tabs';
import { startTheme } from './theme';
import './style.css';

const root = createRootRoute({ component: Outlet, notFoundComponent: NotFound, errorComponent: BrokenAlone });
const inside = createRoute({
  getParentRoute: () => root,
  id: 'inside',
  component: () => <Shell />,
  errorComponent: BrokenAlone,
  beforeLoad: async ({ location }) => {
    try {
      await queries.query({ ...session, staleTime: 'static' });
    } catch (error) {
      if (!(error instanceof Refusal) || error.problem.status !== 401) throw error;
      redirect({ to: '/signin', search: location.href === '/' ? {} : { next: location.href }, throw: true });
    }
  },
});
const page = <P extends string>(path: P, component: () => React.ReactNode) =>
  createRoute({ getParentRoute: () => inside, path, component });
/** A page about something that not every server has: without it the address is like any other that does not exist. */
const pageOf = <P extends string>(scope: string, path: P, component: () => React.ReactNode) =>
  createRoute({
    getParentRoute: () => inside,
    path,
    component,
    beforeLoad: async () => {
      const known = await queries.query({ ...scopes, staleTime: 'static' });
      if (!known.some((it) => it.scope === scope)) notFound({ throw: true });
    },
  });
const entry = <P extends string>(path: P, component: () => React.ReactNode) =>
  createRoute({ getParentRoute: () => root, path, component });

const router = createRouter({
  scrollRestoration: true,
  defaultErrorComponent: Broken,
  routeTree: root.addChildren([
    entry('/setup', SetUp),
    createRoute({
      getParentRoute: () => root,
      path: '/signin',
      component: SignIn,
      validateSearch: (search: Record<string, unknown>): { next?: string; ended?: boolean } => ({
        ...(typeof search.next === 'string' ? { next: search.next } : {}),
        ...(search.ended === true ? { ended: true } : {}),
      }),
    }),
    entry('/signup', SignUp),
    entry('/invite', Invite),
    entry('/recover', Recover),
    // Any other address. Whether somebody is signed in says only how much stands around the answer.
    createRoute({ getParentRoute: () => root, path: '$', component: NotFound, loader: () => queries.query(session).catch(() => undefined) }),
    inside.addChildren([
      createRoute({ getParentRoute: () => inside, path: '/', beforeLoad: () => redirect({ to: '/developer', throw: true }) }),
      page('/developer', DeveloperPage),
      page('/developer/$keyId', KeyPage),
      pageOf('agents:read', '/agents', AgentsPage),
      pageOf('agents:read', '/agents/$agentId', AgentPage),
      pageOf('analytics:read', '/conversations', ConversationsPage),
      pageOf('analytics:read', '/conversations/$conversationId', ConversationPage),
      pageOf('analytics:read', '/analytics', AnalyticsPage),
      pageOf('numbers:read', '/numbers', NumbersPage),
      pageOf('billing:read', '/wallet', WalletPage),
      page('/members', MembersPage),
      page('/audit', AuditPage),
      page('/reference', ReferencePage),
      page('/sessions', SessionsPage),
    ]),
  ]),
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}

onElsewhere(learnSession);
startTheme();
const place = document.getElementById('root');
if (place) {
  createRoot(place).render(
    <StrictMode>
      <QueryClientProvider client={queries}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </StrictMode>,
  );
}
