// Command server answers as a model server of the version that its environment names, and fails as often as it says.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	if why := os.Getenv("DIE"); why != "" {
		log.Fatal(why)
	}
	if d, err := time.ParseDuration(os.Getenv("START_AFTER")); err == nil {
		<-time.After(d)
	}
	value := os.Getenv("VALUE")
	if dir := os.Getenv("ML_MODEL_DIR"); dir != "" { // the model, and code in the working folder
		model, err := os.ReadFile(dir + "/value")
		code, err2 := os.ReadFile("code.txt")
		if err != nil || err2 != nil {
			log.Fatal(err, err2)
		}
		value = string(model) + string(code)
	}
	every, _ := strconv.ParseInt(os.Getenv("FAIL_EVERY"), 10, 64) // 0 = never
	var n atomic.Int64
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if every > 0 && r.Method == http.MethodPost && n.Add(1)%every == 0 {
			http.Error(w, "injected", http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintf(w, `{"predictions":[%q]}`, value)
	})
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() { log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), nil)) }()
	<-stop
}
