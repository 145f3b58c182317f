//go:build e2e

package scenarios

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/continuo-ml/continuo/e2e/cluster/stores"
)

// TestS is the quickstart with its data in a bucket of S3 that only the machine of `ml` reaches: it trains in pods, the same bytes
// written again change nothing, others under the same key are a plan to train, the model comes back to this machine for a validation,
// and no credential is left anywhere.
func TestS(t *testing.T) {
	t.Parallel()
	server, err := stores.S3(t.Context(), t.TempDir(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	}()
	client := s3.New(s3.Options{
		BaseEndpoint: &server.Endpoint, UsePathStyle: true, Region: stores.Region,
		Credentials: credentials.NewStaticCredentialsProvider(stores.AccessKey, stores.SecretKey, ""),
	})
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("clinic")}); err != nil {
		t.Fatal(err)
	}
	put := func(content []byte) {
		t.Helper()
		if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("clinic"), Key: aws.String("tumors/wdbc.csv"), Body: bytes.NewReader(content)}); err != nil {
			t.Fatal(err)
		}
	}

	w := newWorld(t, "quickstart", "kubernetes")
	for name, value := range server.Env {
		w.env = append(w.env, name+"="+value)
	}
	file := filepath.Join(w.dir, "tumors.ml.hcl")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	moved := strings.Replace(string(text), `"data/wdbc*.csv"`, `"s3://clinic/tumors/*.csv"`, 1)
	if moved == string(text) {
		t.Fatal("the example has another source than this test replaces")
	}
	// On the laptop, the same bytes: the digest that they have there must be the one that they have in the bucket.
	data, err := os.ReadFile(filepath.Join(w.dir, "data", "wdbc.csv"))
	if err != nil {
		t.Fatal(err)
	}
	put(data)
	w.ml("apply", "-auto-approve")
	w.serves(1)
	if err := os.WriteFile(file, []byte(moved), 0o644); err != nil {
		t.Fatal(err)
	}
	if plan := w.plan(); plan["training.tumors"] != "" || plan["validation.tumors"] != "" || plan["deployment.tumors"] != "" {
		t.Errorf("the same data in a bucket is planned as %v", plan)
	}
	w.ml("apply", "-auto-approve")
	w.unchanged()
	put(data)
	w.unchanged()

	lines := bytes.SplitAfter(data, []byte("\n"))
	put(bytes.Join(append(lines[:1:1], lines[21:]...), nil))
	if why := w.plan()["training.tumors"]; why != "run data_changed" {
		t.Errorf("with other bytes under the same key the training is planned as %q", why)
	}
	w.ml("apply", "-auto-approve", "-target", "training.tumors")
	if v := w.status("training.tumors").Version; v != 2 {
		t.Errorf("the training has version %d", v)
	}
	// Back on the laptop, what the cluster trained is fetched, and not trained again.
	cluster := w.env
	w.env = append(cluster[:len(cluster):len(cluster)], "ML_VAR_where=local")
	w.ml("apply", "-auto-approve", "-target", "validation.tumors", "-replace", "validation.tumors")
	if v := w.status("training.tumors").Version; v != 2 {
		t.Errorf("after a validation on this machine the training has version %d", v)
	}
	w.env = cluster
	w.ml("destroy", "-auto-approve")
	w.gone()
	err = filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if b, err := os.ReadFile(path); err != nil {
			return err
		} else if bytes.Contains(b, []byte(stores.SecretKey)) {
			t.Errorf("%s holds the key of the bucket", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
