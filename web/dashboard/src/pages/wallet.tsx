// The wallet: what is in it, how it fills, what it is spent on.
import { useInfiniteQuery, useMutation, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { Refusal, api, ask, type Schemas } from '../api';
import { count, usd } from '../format';
import { billingUsage, charges, holds, own, plans, queries, session, wallet } from '../queries';
import { Actions, Badge, Confirm, Dialog, Empty, Failure, Form, Heading, Loading, More, Notice, Table, Text, Time, Trouble } from '../ui';

const renew = () => void queries.invalidateQueries({ queryKey: own('billing') });

export function WalletPage() {
  const { data: me } = useQuery(session);
  const found = useQuery(wallet());
  const offered = useQuery(plans);
  const [open, setOpen] = useState<'' | 'top-up' | 'reload'>('');
  const [choosing, setChoosing] = useState<Schemas['Plan']>();
  const may = holds(me, 'billing:write');
  const it = found.data;
  return (
    <>
      <Heading title="Wallet">
        {may && (
          <>
            <button type="button" onClick={() => setOpen('reload')}>
              Auto-reload
            </button>
            <button type="button" className="primary" onClick={() => setOpen('top-up')}>
              Top up
            </button>
          </>
        )}
      </Heading>
      <Failure of={[found]} />
      {!it && !found.error && <Loading rows={4} />}
      {it && (
        <div className="grid">
          <section className="card" aria-label="Balance">
            <h2>Balance</h2>
            <p className="figure">{usd(it.balanceUsd)}</p>
            {it.paymentProvider === 'sandbox' && <Notice tone="warn">Payments are a sandbox here: no money moves.</Notice>}
            <p className="quiet">
              {it.autoReloadEnabled && it.autoReloadThresholdUsd !== null && it.autoReloadAmountUsd !== null
                ? `Auto-reload: below ${usd(it.autoReloadThresholdUsd)}, ${usd(it.autoReloadAmountUsd)} is paid in.`
                : 'Auto-reload is off.'}
            </p>
          </section>
          <section className="card" aria-label="Plan">
            <h2>Plan</h2>
            <Failure of={[offered]} />
            {offered.data?.map((plan) => (
              <div key={plan.id} className="heading">
                <div>
                  {plan.name} {plan.id === it.planId && <Badge tone="good">yours</Badge>} {plan.id === it.nextPlanId && <Badge tone="plain">from the next month</Badge>}
                  <div className="quiet small">
                    {usd(plan.monthlyPriceUsd)} a month, {count(plan.includedMessages, 'message')} in it, then {usd(plan.overageRate)} each
                  </div>
                </div>
                {may && plan.id !== (it.nextPlanId ?? it.planId) && (
                  <button type="button" onClick={() => setChoosing(plan)}>
                    Choose
                  </button>
                )}
              </div>
            ))}
            <p className="quiet small">
              This month ends <Time at={it.periodEndsAt} />.
            </p>
          </section>
        </div>
      )}
      <Spent />
      <Items />
      {choosing && it && (
        <Confirm
          title={`Choose ${choosing.name}`}
          action={`Choose ${choosing.name}`}
          harmless
          act={() => ask(api.POST('/billing/subscription', { body: { planId: choosing.id } }))}
          onDone={renew}
          onClose={() => setChoosing(undefined)}
        >
          <p>
            {choosing.name} costs {usd(choosing.monthlyPriceUsd)} a month from the wallet, with {count(choosing.includedMessages, 'message')} in it; each further one costs {usd(choosing.overageRate)}.
          </p>
          <p>
            A more expensive plan begins at once and is paid at once; a cheaper one begins when this month ends, <Time at={it.periodEndsAt} />.
          </p>
        </Confirm>
      )}
      {open === 'top-up' && <TopUp onClose={() => setOpen('')} />}
      {open === 'reload' && it && <AutoReload enabled={it.autoReloadEnabled} threshold={it.autoReloadThresholdUsd ?? 10} amount={it.autoReloadAmountUsd ?? 25} onClose={() => setOpen('')} />}
    </>
  );
}

function TopUp({ onClose }: { onClose: () => void }) {
  const [amount, setAmount] = useState('25');
  // One payment however often the button or the network repeats itself.
  const [once] = useState(() => crypto.randomUUID());
  const pay = useMutation({
    mutationFn: () => ask(api.POST('/billing/wallet/topup', { params: { header: { 'Idempotency-Key': once } }, body: { amountUsd: Number(amount) } })),
    onSuccess: renew,
  });
  const refusal = pay.error instanceof Refusal ? pay.error : undefined;
  return (
    <Dialog title="Top up" onClose={onClose} light>
      {pay.data ? (
        <>
          {pay.data.status === 'succeeded' && <Notice tone="good">{usd(pay.data.amountUsd)} are in the wallet.</Notice>}
          {pay.data.status === 'failed' && <Notice tone="bad">The payment was declined; nothing was taken.</Notice>}
          {pay.data.status === 'pending' && <Notice tone="plain">The payment is under way with {pay.data.paymentProvider}; the balance shows it once it is paid.</Notice>}
          <div className="actions">
            <button type="button" className="primary" onClick={onClose}>
              Close
            </button>
          </div>
        </>
      ) : (
        <Form busy={pay.isPending} onSubmit={() => pay.mutate()}>
          <Text label="Amount in US dollars" type="number" value={amount} onChange={setAmount} required error={refusal?.field('amountUsd')} hint="From 1 to 10,000." />
          <Trouble error={pay.error} />
          <Actions action="Pay" busy={pay.isPending} onClose={onClose} />
        </Form>
      )}
    </Dialog>
  );
}

function AutoReload({ enabled, threshold, amount, onClose }: { enabled: boolean; threshold: number; amount: number; onClose: () => void }) {
  const [on, setOn] = useState(enabled);
  const [under, setUnder] = useState(String(threshold));
  const [by, setBy] = useState(String(amount));
  const save = useMutation({
    mutationFn: () =>
      ask(api.PUT('/billing/wallet/auto-reload', { body: { autoReloadEnabled: on, autoReloadThresholdUsd: Number(under), autoReloadAmountUsd: Number(by) } })),
    onSuccess: () => {
      renew();
      onClose();
    },
  });
  const refusal = save.error instanceof Refusal ? save.error : undefined;
  return (
    <Dialog title="Auto-reload" onClose={onClose}>
      <Form busy={save.isPending} onSubmit={() => save.mutate()}>
        <div className="check">
          <input type="checkbox" id="reload" checked={on} onChange={(event) => setOn(event.target.checked)} />
          <label htmlFor="reload">Top the wallet up automatically</label>
        </div>
        <Text label="When it holds less than" type="number" value={under} onChange={setUnder} required error={refusal?.field('autoReloadThresholdUsd')} hint="US dollars, from 5." />
        <Text label="By" type="number" value={by} onChange={setBy} required error={refusal?.field('autoReloadAmountUsd')} hint="US dollars, from 10." />
        <Trouble error={save.error} />
        <Actions action="Save" busy={save.isPending} onClose={onClose} />
      </Form>
    </Dialog>
  );
}

function Spent() {
  const usage = useQuery(billingUsage());
  const days = usage.data?.days ?? [];
  const sums = new Map<string, { quantity: number; costUsd: number }>();
  for (const one of days.flatMap((day) => day.channels)) {
    const known = sums.get(one.channel) ?? { quantity: 0, costUsd: 0 };
    sums.set(one.channel, { quantity: known.quantity + one.quantity, costUsd: known.costUsd + one.costUsd });
  }
  return (
    <section className="card" aria-label="Usage">
      <h2>Usage in 30 days</h2>
      <Failure of={[usage]} />
      {usage.isPending && <Loading />}
      {usage.data && days.length === 0 && <Empty title="Nothing was used yet" />}
      {sums.size > 0 && (
        <Table label="Usage by channel" columns={['Channel', 'Quantity', 'Cost']}>
          {[...sums].map(([channel, it]) => (
            <tr key={channel}>
              <td>{channel}</td>
              <td>{it.quantity.toLocaleString()}</td>
              <td>{usd(it.costUsd)}</td>
            </tr>
          ))}
        </Table>
      )}
    </section>
  );
}

function Items() {
  const items = useInfiniteQuery(charges());
  const rows = items.data?.pages.flatMap((it) => it.items) ?? [];
  return (
    <section className="card" aria-label="Charges">
      <h2>Charges</h2>
      <Failure of={[items]} />
      {items.isPending && <Loading />}
      {items.isSuccess && rows.length === 0 && <Empty title="No charge yet" />}
      {rows.length > 0 && (
        <Table label="Table of charges" columns={['When', 'For', 'Quantity', 'Cost']}>
          {rows.map((it) => (
            <tr key={it.id}>
              <td>
                <Time at={it.time} />
              </td>
              <td className="name">{it.description}</td>
              <td>{it.quantity}</td>
              <td>{usd(it.credits / 100)}</td>
            </tr>
          ))}
        </Table>
      )}
      <More of={items} what="Older charges" />
    </section>
  );
}
