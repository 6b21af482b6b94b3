/* SPDX-License-Identifier: MIT */
#include "pacing.h"

#include "../common/clock.h"
#include "../common/limits.h"

#define SMOOTHING      0.2 /* of the period */
#define EARLY_FADES    20  /* requests over which an early one is remembered */
#define SILENT_PERIODS 3   /* without a request after which none is expected */
#define ALONE_RATE     0.15F
#define ALONE_ALWAYS   0.97F     /* a session that begins alone so often takes turns with the others */
#define PUT_OFF_NS     NS_PER_MS /* a request this soon after another's end was waiting for it */

void pacing_began(struct pacing *pacing, uint64_t begin_ns, uint64_t deadline_ns, uint32_t context, bool same_phase,
		  bool alone)
{
	pacing->alone += ALONE_RATE * ((alone ? 1 : 0) - pacing->alone);
	if (pacing->last_begin_ns) {
		uint64_t apart_ns = begin_ns - pacing->last_begin_ns;
		double mean_ns = (double)pacing->period_ns;

		/* A late request delayed this one: its own period was shorter. */
		if (apart_ns > deadline_ns && begin_ns - pacing->last_end_ns < PUT_OFF_NS)
			apart_ns = deadline_ns;
		pacing->early_ns -= pacing->early_ns / EARLY_FADES;
		if (mean_ns > (double)apart_ns && (uint64_t)mean_ns - apart_ns > pacing->early_ns)
			pacing->early_ns = (uint64_t)mean_ns - apart_ns;
		mean_ns += (mean_ns > 0 ? SMOOTHING : 1) * ((double)apart_ns - mean_ns);
		pacing->period_ns = (uint64_t)mean_ns;
		pacing->gap_ns[1] = pacing->gap_ns[0];
		pacing->gap_ns[0] = begin_ns > pacing->last_end_ns ? begin_ns - pacing->last_end_ns : 0;
	}
	pacing->growth = same_phase && context > pacing->context ? context - pacing->context : 0;
	pacing->last_begin_ns = begin_ns;
	pacing->context = context;
}

void pacing_ended(struct pacing *pacing, uint64_t end_ns)
{
	pacing->last_end_ns = end_ns;
}

uint64_t pacing_next_ns(const struct pacing *pacing, uint64_t now_ns, uint64_t *by_ns)
{
	uint64_t seen_ns = pacing->gap_ns[0] > pacing->gap_ns[1] ? pacing->gap_ns[0] : pacing->gap_ns[1];
	uint64_t due_ns = pacing->last_begin_ns + pacing->period_ns, free_ns = pacing->last_end_ns + seen_ns;

	if (!pacing->period_ns || now_ns > pacing->last_begin_ns + SILENT_PERIODS * pacing->period_ns)
		return 0;
	*by_ns = (due_ns > now_ns ? due_ns : now_ns) + pacing->early_ns;
	due_ns -= pacing->early_ns < pacing->period_ns ? pacing->early_ns : pacing->period_ns;
	if (free_ns < due_ns)
		due_ns = free_ns;
	return due_ns > now_ns ? due_ns : now_ns + 1;
}

bool pacing_takes_turns(const struct pacing *pacing)
{
	return pacing->alone > ALONE_ALWAYS;
}

uint64_t pacing_gap_ns(const struct pacing *pacing)
{
	if (!pacing->period_ns)
		return UINT64_MAX;
	return pacing->gap_ns[0] < pacing->gap_ns[1] ? pacing->gap_ns[0] : pacing->gap_ns[1];
}

uint32_t pacing_context(const struct pacing *pacing, uint32_t n)
{
	uint64_t context = pacing->context + (uint64_t)n * pacing->growth;

	return context < CONTEXT_TOKENS_MAX ? (uint32_t)context : CONTEXT_TOKENS_MAX;
}
