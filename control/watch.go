package control

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/btns-ipsec/btns/host"
)

// watch streams events, a line each. Headers go out at once, so that the client knows that it is heard.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	flusher := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	if flusher.Flush() != nil {
		return
	}
	lines := json.NewEncoder(w)
	_ = s.daemon.Watch(r.Context(), func(rep host.Report, suppressed uint64) error {
		// A reader that has stopped reading may not hold a goroutine for ever.
		if err := flusher.SetWriteDeadline(time.Now().Add(30 * time.Second)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		if err := lines.Encode(eventOf(rep, suppressed)); err != nil {
			return err
		}
		return flusher.Flush()
	})
}
