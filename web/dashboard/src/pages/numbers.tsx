// Telephone numbers: those the organization has, and those it can buy.
import { useMutation, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { api, ask, page, type Schemas } from '../api';
import { usd } from '../format';
import { agents, holds, numbers, own, queries, session } from '../queries';
import { Badge, Confirm, Dialog, Empty, Failure, Field, Form, Heading, Loading, Notice, Table, Text, Time, Trouble } from '../ui';

type PhoneNumber = Schemas['Number'];
type Offer = Schemas['NumberOffer'];

const renew = () => {
  void queries.invalidateQueries({ queryKey: own('numbers') });
  void queries.invalidateQueries({ queryKey: own('billing') });
};

export function NumbersPage() {
  const { data: me } = useQuery(session);
  const list = useQuery(numbers());
  const known = useQuery({ ...agents(), enabled: holds(me, 'agents:read') });
  const [buying, setBuying] = useState(false);
  const [leaving, setLeaving] = useState<PhoneNumber>();
  const assign = useMutation({
    mutationFn: ({ id, agentId }: { id: string; agentId: string }) =>
      agentId ? ask(api.POST('/numbers/{id}/assign', { params: { path: { id } }, body: { agentId } })) : ask(api.DELETE('/numbers/{id}/assign', { params: { path: { id } } })),
    onSuccess: renew,
  });
  const may = holds(me, 'numbers:write');
  return (
    <>
      <Heading title="Numbers">
        {may && (
          <button type="button" className="primary" onClick={() => setBuying(true)}>
            Find a number
          </button>
        )}
      </Heading>
      <section className="card" aria-label="Numbers">
        <Failure of={[list, known, assign]} />
        {list.isPending && <Loading />}
        {list.data?.length === 0 && (
          <Empty title="No number yet">
            <p>A number rings an agent. It costs rent each month, taken from the wallet.</p>
          </Empty>
        )}
        {list.data && list.data.length > 0 && (
          <Table label="Table of numbers" columns={['Number', 'Agent', 'A month', 'Paid until']} actions={may}>
            {list.data.map((it) => (
              <tr key={it.id}>
                <td>
                  <code>{it.e164}</code> {it.provider === 'sandbox' && <Badge tone="plain">sandbox</Badge>} {it.status === 'pending' && <Badge tone="warn">pending</Badge>}
                </td>
                <td>
                  {may ? (
                    <select
                      aria-label={`Agent of ${it.e164}`}
                      value={it.defaultAgentId ?? ''}
                      disabled={assign.isPending || it.status === 'pending'}
                      onChange={(event) => assign.mutate({ id: it.id, agentId: event.target.value })}
                    >
                      <option value="">Nobody</option>
                      {known.data?.map((agent) => (
                        <option key={agent.id} value={agent.id}>
                          {agent.name}
                        </option>
                      ))}
                    </select>
                  ) : (
                    (known.data?.find((agent) => agent.id === it.defaultAgentId)?.name ?? 'nobody')
                  )}
                </td>
                <td>{usd(it.monthlyCost)}</td>
                <td>
                  <Time at={it.paidUntil} />
                </td>
                {may && (
                  <td>
                    <div className="actions">
                      <button type="button" disabled={it.status === 'pending'} onClick={() => setLeaving(it)}>
                        Release
                      </button>
                    </div>
                  </td>
                )}
              </tr>
            ))}
          </Table>
        )}
      </section>
      {buying && <Buy onClose={() => setBuying(false)} />}
      {leaving && (
        <Confirm
          title={`Release ${leaving.e164}`}
          action="Release"
          type={leaving.e164}
          act={() => ask(api.DELETE('/numbers/{id}', { params: { path: { id: leaving.id } } }))}
          onDone={renew}
          onClose={() => setLeaving(undefined)}
        >
          <p>It goes back to the carrier, and somebody else may get it. What was paid is not paid back.</p>
        </Confirm>
      )}
    </>
  );
}

function Buy({ onClose }: { onClose: () => void }) {
  const [country, setCountry] = useState<'US' | 'CA' | 'GB'>('US');
  const [area, setArea] = useState('');
  const [once] = useState(() => crypto.randomUUID());
  const find = useMutation({
    mutationFn: () => page(api.GET('/numbers/search', { params: { query: { country, ...(area ? { areaCode: area } : {}) } } })),
  });
  const unknown = area !== '' && !/^[0-9]{2,5}$/.test(area);
  const [wanted, setWanted] = useState<Offer>();
  const [bought, setBought] = useState<string>();
  return (
    <Dialog title="Find a number" onClose={onClose} wide light>
      {bought ? (
        <>
          <Notice tone="good">{bought} is yours.</Notice>
          <div className="actions">
            <button type="button" className="primary" onClick={onClose}>
              Close
            </button>
          </div>
        </>
      ) : (
        <>
          <Form busy={find.isPending} onSubmit={() => find.mutate()}>
            <div className="toolbar">
              <Field label="Country">
                {(props) => (
                  <select {...props} value={country} onChange={(event) => setCountry(event.target.value as typeof country)}>
                    <option value="US">United States</option>
                    <option value="CA">Canada</option>
                    <option value="GB">United Kingdom</option>
                  </select>
                )}
              </Field>
              <Text label="Area code" value={area} onChange={setArea} maxLength={5} placeholder="202" error={unknown ? 'Two to five digits.' : undefined} />
              <button type="submit" className="beside" disabled={find.isPending || unknown}>
                {find.isPending ? 'Looking…' : 'Search'}
              </button>
            </div>
          </Form>
          <Trouble error={find.error} />
          {find.data?.items.length === 0 && <Empty title="No number fits" />}
          {find.data && find.data.items.length > 0 && (
            <Table label="Numbers to buy" columns={['Number', 'Where', 'A month', 'Once']} actions>
              {find.data.items.map((it) => (
                <tr key={it.e164}>
                  <td>
                    <code>{it.formatted}</code>
                  </td>
                  <td>{[it.locality, it.region].filter(Boolean).join(', ')}</td>
                  <td>{usd(it.monthlyCost)}</td>
                  <td>{usd(it.setupCost)}</td>
                  <td>
                    <div className="actions">
                      <button type="button" disabled={!it.reservable} onClick={() => setWanted(it)}>
                        Buy<span className="unseen"> {it.e164}</span>
                      </button>
                    </div>
                  </td>
                </tr>
              ))}
            </Table>
          )}
        </>
      )}
      {wanted && (
        <Confirm
          title={`Buy ${wanted.formatted}`}
          action={`Buy for ${usd(wanted.setupCost + wanted.monthlyCost)}`}
          harmless
          act={() => ask(api.POST('/numbers/purchase', { params: { header: { 'Idempotency-Key': `${once}:${wanted.e164}` } }, body: { e164: wanted.e164 } }))}
          onDone={(done) => {
            renew();
            setBought(done.e164);
          }}
          onClose={() => setWanted(undefined)}
        >
          <p>
            {usd(wanted.setupCost + wanted.monthlyCost)} are taken from the wallet now: {usd(wanted.setupCost)} once, and {usd(wanted.monthlyCost)} for the first month. After that it costs {usd(wanted.monthlyCost)} a month
            until it is released. What was paid is not paid back.
          </p>
        </Confirm>
      )}
    </Dialog>
  );
}
