package engine

import (
	"context"
	"time"

	"github.com/btns-ipsec/btns/host"
)

// Operate gives the host what an operator says about keys, and returns what the host answers: the last report says
// whether it was done. It is on disk then.
func (e *Engine) Operate(ctx context.Context, ev host.Event) ([]host.Report, error) {
	reports, err := query(ctx, e, func(now time.Time) []host.Report { return operatorReports(e.step(now, ev)) })
	if err != nil {
		return nil, err
	}
	return reports, e.saver.flush(ctx)
}

func operatorReports(acts []host.Action) (out []host.Report) {
	for _, a := range acts {
		if r, ok := a.(host.Report); ok && r.Kind == host.Operator {
			out = append(out, r)
		}
	}
	return out
}
