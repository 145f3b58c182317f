package drift_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/internal/drift"
	"github.com/continuo-ml/continuo/internal/tabular"
)

func loadCSV(t *testing.T, text string) *tabular.Table {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data.csv")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	table, err := tabular.Load(context.Background(), []string{path}, tabular.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestTablesCompareColumnByColumnAndCountMissingValues(t *testing.T) {
	var ref, cur strings.Builder
	ref.WriteString("age,city\n")
	cur.WriteString("age,city\n")
	for i := range 200 {
		city := []string{"oslo", "rome", "bonn"}[i%3]
		ref.WriteString(num(i%60) + "," + city + "\n")
		cur.WriteString(num(i%60+40) + "," + city + "\n")
	}
	cur.WriteString("NA,oslo\n")
	rep, err := drift.Tables(loadCSV(t, ref.String()), loadCSV(t, cur.String()), drift.PSI, drift.Evidently)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, c := range rep.Columns {
		got[c.Column] = c.Drifted
	}
	if !got["age"] || got["city"] || rep.Share != 0.5 || !rep.Drifted {
		t.Fatalf("age must drift, city must not, share 0.5: %+v", rep)
	}
	s := drift.FromColumn(loadCSV(t, cur.String()).Column("age"))
	if s.Nulls != 1 || len(s.Numbers) != 200 {
		t.Fatalf("one missing value of 201: %d numbers, %d nulls", len(s.Numbers), s.Nulls)
	}
}

func TestTablesNameTheColumnThatIsMissing(t *testing.T) {
	_, err := drift.Tables(loadCSV(t, "a,b\n1,2\n"), loadCSV(t, "a\n1\n"), drift.Auto, drift.Evidently)
	if err == nil || !strings.Contains(err.Error(), `"b"`) {
		t.Fatalf("want an error naming b, got %v", err)
	}
}

func num(i int) string { return strconv.Itoa(i) }
