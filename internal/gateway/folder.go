package gateway

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/proc"
)

// folder is the folder of one deployment; every file name is here.
type folder string

func (f folder) desired() string { return filepath.Join(string(f), "desired.json") }
func (f folder) state() string   { return filepath.Join(string(f), "state.json") }
func (f folder) process() string { return filepath.Join(string(f), "gateway.json") }
func (f folder) stop() string    { return filepath.Join(string(f), "stop.json") }
func (f folder) lock() string    { return filepath.Join(string(f), "lock") }
func (f folder) applying() string {
	return filepath.Join(string(f), "desired.lock")
}
func (f folder) capture() string { return filepath.Join(string(f), "capture") }
func (f folder) cursor() string  { return filepath.Join(string(f), "sink.json") }

// A router's: the routes it followed last, the name of its captured answers,
// and how far readers have seen them.
func (f folder) routes() string { return filepath.Join(string(f), "routes.json") }
func (f folder) store() string  { return filepath.Join(string(f), "store.json") }
func (f folder) given() string  { return filepath.Join(string(f), "given.json") }

func (f folder) logs() string { return filepath.Join(string(f), "logs") }
func (f folder) log() string  { return filepath.Join(f.logs(), "gateway.log") }

// CaptureDir is where the gateway on dir keeps its capture segments.
func CaptureDir(dir string) string { return folder(dir).capture() }

// LogDir is where the gateway on dir keeps gateway.log and a log per server
// (v2-0.log, v2-0.transformer.log).
func LogDir(dir string) string { return folder(dir).logs() }

// processFile is gateway.json: the running gateway, and the ports for ever.
type processFile struct {
	Process proc.Identity `json:"process"`
	Port    int           `json:"port"`
	Admin   int           `json:"admin"`
}

// stateFile is state.json: Live, and what only the gateway reads.
type stateFile struct {
	Live
	Serving *spec `json:"serving,omitempty"`
	Trying  *spec `json:"trying,omitempty"`
}

// stopFile is what Stop leaves for the gateway before it signals.
type stopFile struct {
	Process proc.Identity `json:"process"`
	DrainNS int64         `json:"drain_ns"`
}

// readJSON decodes a file into v. A missing file is os.ErrNotExist.
func readJSON(name string, v any) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// writeJSON replaces a file durably: a crash leaves the old or the new one.
// Environments may hold secrets, so nobody else may read it.
func writeJSON(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := durable.WriteFile(name, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
