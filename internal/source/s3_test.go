package source

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// awsEnv gives a test the environment of somebody with keys, and nothing of who runs it.
func awsEnv(t *testing.T) {
	t.Helper()
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hush", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none,
	} {
		t.Setenv(name, value)
	}
}

func TestTheAuthoritiesThatAWSIsToldOfAreTrusted(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(w, r, "t.csv", time.Unix(1e9, 0), bytes.NewReader([]byte("one")))
	}))
	defer s.Close()
	awsEnv(t)
	probe := func() error {
		r := New(Options{Dir: t.TempDir(), Attempts: 1})
		defer r.Close()
		v, err := r.Probe(t.Context(), "s3://b/t.csv?region=eu-west-1&endpoint="+s.URL)
		if err == nil && v.Hex != sum("one") {
			t.Errorf("it is %s", v.Hex)
		}
		return err
	}
	if err := probe(); err == nil || !strings.Contains(err.Error(), "SSL_CERT_FILE") {
		t.Errorf("a server that nobody vouches for: %v", err)
	}
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	if err := probe(); err != nil {
		t.Errorf("with AWS_CA_BUNDLE: %v", err)
	}
}

func TestABucketInAnotherRegionIsFollowedThere(t *testing.T) {
	var regions []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scope := strings.Split(r.Header.Get("Authorization"), "/")
		regions = append(regions, scope[2])
		if scope[2] != "eu-west-3" {
			w.Header().Set("X-Amz-Bucket-Region", "eu-west-3")
			w.WriteHeader(http.StatusMovedPermanently)
			fmt.Fprint(w, `<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>`)
			return
		}
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(w, r, "t.csv", time.Unix(1e9, 0), bytes.NewReader([]byte("one")))
	}))
	defer s.Close()
	awsEnv(t)
	r := New(Options{Dir: t.TempDir(), Attempts: 1})
	defer r.Close()
	if v, err := r.Probe(t.Context(), "s3://b/t.csv?endpoint="+s.URL); err != nil || v.Hex != sum("one") {
		t.Errorf("%+v, %v (asked in %v)", v, err, regions)
	}
	if _, err := r.Probe(t.Context(), "s3://b/t.csv?region=us-east-1&endpoint="+s.URL); err == nil || !strings.Contains(err.Error(), "the bucket is in eu-west-3 and us-east-1 was asked") {
		t.Errorf("a region that is written: %v", err)
	}
}

func TestAnswersOfS3AreToldWithWhatToDo(t *testing.T) {
	status, body := 0, ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	defer s.Close()
	awsEnv(t)
	for _, c := range []struct {
		status int
		code   string
		kind   error
		text   string
	}{
		{403, "RequestTimeTooSkewed", ErrDenied, "clock"},
		{403, "AccessDenied", ErrDenied, "s3:GetObject and s3:ListBucket"},
		{400, "ExpiredToken", ErrDenied, "aws sso login"},
		{404, "NoSuchBucket", ErrNotFound, "there is no bucket b"},
		{503, "SlowDown", nil, "tried 2 times"},
		{400, "AuthorizationHeaderMalformed", nil, "AWS_REGION"},
	} {
		status, body = c.status, fmt.Sprintf("<Error><Code>%s</Code><Message>why</Message></Error>", c.code)
		r := New(Options{Dir: t.TempDir(), Attempts: 2, Wait: time.Millisecond})
		_, err := r.Probe(t.Context(), "s3://b/x/?endpoint="+s.URL)
		if err == nil || c.kind != nil && !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %v %q", c.code, err, c.kind, c.text)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}
